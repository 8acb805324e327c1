"""`local-fusion keys`: who may use the server, and how much."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from local_fusion.cli.options import ConfigOption

app = typer.Typer(help="Add, list and remove the keys of a server.", no_args_is_help=True)
FileOption = Annotated[
    Path | None, typer.Option("--file", help="File of keys [default: server.keys, else keys.yaml in the state folder]")
]
Name = Annotated[str, typer.Argument(help="Who the key is for; it stands in log lines.")]


@app.command("add")
def add(
    name: Name,
    fusions: Annotated[str | None, typer.Option(help="Fusions and members it may use, by commas.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Requests at once.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Tokens a minute, over all stages.")] = None,
    file: FileOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a key and print its secret, once; only its hash is kept."""
    from local_fusion.config.keys import add_key

    allowed = tuple(part.strip() for part in fusions.split(",") if part.strip()) if fusions is not None else None
    path = _file(file, config, allowed)
    first = not path.exists()
    secret = add_key(path, name, allowed, parallel, tokens_per_minute)
    typer.echo(f"{name}: the key below is shown this once; its hash is in {path}", err=True)
    if first:
        typer.echo("this is the first key: a server that runs without keys asks for it once started again", err=True)
    typer.echo(secret)


@app.command("list")
def list_keys(file: FileOption = None, config: ConfigOption = None) -> None:
    """Show names and limits; secrets are not known any more."""
    from rich.console import Console
    from rich.table import Table

    from local_fusion.config.keys import load_keys

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("name", "may use", "parallel", "tokens/minute", "created"):
        table.add_column(column)
    for name, entry in load_keys(_file(file, config)).items():
        allowed = "everything" if entry.fusions is None else ", ".join(entry.fusions)
        table.add_row(name, allowed, _limit(entry.parallel), _limit(entry.tokens_per_minute), entry.created or "")
    Console(highlight=False, markup=False).print(table)


@app.command("remove")
def remove(name: Name, file: FileOption = None, config: ConfigOption = None) -> None:
    """Take a key out; a running server refuses it within a second."""
    from local_fusion.config.keys import remove_key

    path = _file(file, config)
    remove_key(path, name)
    typer.echo(f"{name} is removed from {path}", err=True)


def _file(file: Path | None, config: Path | None, allowed: tuple[str, ...] | None = None) -> Path:
    from local_fusion.config import load_config
    from local_fusion.config.keys import keys_file

    if file is not None and config is None and not allowed:
        return file.expanduser()
    loaded = load_config(config)
    for name in allowed or ():
        if name not in loaded.models:
            loaded.fusion_name(name)
    return file.expanduser() if file is not None else keys_file(loaded.server.keys, loaded.server.state)


def _limit(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
