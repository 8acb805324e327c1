"""`local-fusion serve`: fusions as models, for every OpenAI client, with a page to try them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_fusion.cli.options import ConfigOption

if TYPE_CHECKING:
    from local_fusion.cli.serve_screen import ServeScreen
    from local_fusion.config import Config, ServerSettings
    from local_fusion.server.door.listening import Door
    from local_fusion.server.service import Service

LOG_FORMATS = ("text", "json", "off")


def serve(
    fusion: Annotated[
        list[str] | None,
        typer.Option("--fusion", "-f", help="Fusion to serve, the first is the default one; give it more than once."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port [default: 8000]; 0: any.")] = None,
    keys: Annotated[Path | None, typer.Option(help="File of keys, made by `local-fusion keys`.")] = None,
    state: Annotated[Path | None, typer.Option(help="Private folder for files, batches and stored answers.")] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file; with --tls-key, HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
    log_format: Annotated[str, typer.Option(help="Lines on stderr: " + " | ".join(LOG_FORMATS))] = "text",
    config: ConfigOption = None,
) -> None:
    """Serve fusions over HTTP. SIGTERM or Ctrl-C ends it in order; a second one at once."""
    from local_fusion.config import load_config
    from local_fusion.errors import ConfigError

    if log_format not in LOG_FORMATS:
        raise ConfigError(f"--log-format: {log_format!r} is none; known are {', '.join(LOG_FORMATS)}")
    loaded = load_config(config)
    given = {
        "fusions": tuple(fusion) if fusion else None,
        "host": host,
        "port": port,
        "keys": _path(keys),
        "state": _path(state),
        "tls_certificate": _path(tls_certificate),
        "tls_key": _path(tls_key),
    }
    settings = loaded.server.model_copy(update={name: value for name, value in given.items() if value is not None})
    for name in settings.fusions:
        loaded.fusion_name(name)
    _serve(loaded, settings, log_format)


def _serve(config: Config, settings: ServerSettings, log_format: str) -> None:
    import asyncio

    from local_fusion.cli.serve_screen import ServeScreen
    from local_fusion.server.door.keys import open_keys
    from local_fusion.server.door.listening import open_door
    from local_fusion.server.serve import new_loop
    from local_fusion.server.service import Service
    from local_fusion.server.watch.logs import log, tame_libraries

    keys = open_keys(settings)
    service = Service(config, settings, keys)
    door = open_door(settings)
    log.configure(log_format)  # type: ignore[arg-type]
    tame_libraries()
    if keys is None:
        service.hosts = door.names
    screen = ServeScreen(service, door.url, open_to_others=not door.loopback and door.tls is None)
    screen.begin()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_run(service, door, screen))


async def _run(service: Service, door: Door, screen: ServeScreen) -> None:
    from local_fusion.server.serve import Stop, serve

    stop = Stop()
    with stop.on_signals():
        await serve(service, door.listening, door.tls, stop, screen.say, screen.ready)


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)
