"""`local-fusion replay`: a recorded row run again, and held against what was recorded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_fusion.cli.options import ConfigOption

if TYPE_CHECKING:
    from local_fusion.batch.recorded import RecordedRow
    from local_fusion.batch.replay import Replay
    from local_fusion.config import Config
    from local_fusion.fusion.recipe import Recipe
    from local_fusion.types import Request

TOLD = 12


def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN/", help="The folder of a batch.")],
    row: Annotated[str, typer.Option(help="The row's id, as in output.jsonl (custom_id).")],
    check: Annotated[
        bool, typer.Option("--check", help="Compare byte for byte; exit code 1 where it differs.")
    ] = False,
    serial: Annotated[bool, typer.Option("--serial", help="One call at a time, for real engines.")] = False,
    source: Annotated[Path | None, typer.Option("--input", help="Where the run's input lies now.")] = None,
    config: ConfigOption = None,
) -> None:
    """Run a row of a batch again: the same request, settings and seeds. Prints the answer."""
    from local_fusion.batch.recorded import find_row, recipe_again, request_again
    from local_fusion.cli.screen import plain
    from local_fusion.config import load_config
    from local_fusion.errors import FusionError

    recorded = find_row(run, row)
    loaded = load_config(config)
    recipe = recipe_again(recorded, loaded.models, loaded.source.parent if loaded.source else None)
    request = request_again(recorded, recipe, source)
    again = asyncio.run(_replay(loaded, recipe, request, serial))
    if isinstance(again.result, FusionError):
        typer.echo(f"local-fusion: {again.result.message}", err=True)
    else:
        typer.echo(plain(again.result.text))
    if check:
        raise typer.Exit(_check(loaded, recorded, recipe, again, serial))
    if isinstance(again.result, FusionError):
        raise typer.Exit(1)


async def _replay(config: Config, recipe: Recipe, request: Request, serial: bool) -> Replay:
    from local_fusion.batch.replay import replay as run_again
    from local_fusion.batch.serial import SerialEngines
    from local_fusion.cli.batch_screen import BatchScreen
    from local_fusion.runtime import open_engines

    with BatchScreen() as screen:
        async with open_engines(config, recipe.settings.models, screen.say) as engines:
            return await run_again(request, recipe, SerialEngines(engines) if serial else engines)


def _check(config: Config, recorded: RecordedRow, recipe: Recipe, again: Replay, serial: bool) -> int:
    """Say on stderr what differs; 0 where nothing does, else 1."""
    from local_fusion.batch.difference import compare, likely_causes
    from local_fusion.batch.options import BatchOptions
    from local_fusion.runtime import identity_of_models, versions

    found = compare(recorded, again)
    if not found:
        typer.echo(f"equal: {len(recorded.calls)} calls, every answer and the fused text, byte for byte", err=True)
        return 0
    typer.echo(f"{len(found)} differences; the first is where it began:", err=True)
    for difference in found[:TOLD]:
        typer.echo(f"  {difference}", err=True)
    if len(found) > TOLD:
        typer.echo(f"  and {len(found) - TOLD} more", err=True)
    today = BatchOptions(
        seed=recorded.run["identity"]["seed"], identity=identity_of_models(config, recipe.settings.models)
    )
    causes = likely_causes(recorded, recipe, today, versions(), again.result)
    for cause in causes:
        typer.echo(f"likely cause: {cause}", err=True)
    if not causes:
        typer.echo(f"settings, templates, weights and versions are the same; {_advice(serial)}", err=True)
    return 1


def _advice(serial: bool) -> str:
    if serial:
        return "the run itself was not made with --serial, or something in it depends on time (deadline, early exit)"
    return "a real engine repeats itself only with --serial, in the run and here"
