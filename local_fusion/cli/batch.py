"""`local-fusion batch`: a file of prompts in, a folder of answers out, resumable by the same command."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_fusion.cli.options import (
    ConfigOption,
    FusionOption,
    ModeOption,
    TraceOption,
    TraceRemoteOption,
    checked_mode,
)

if TYPE_CHECKING:
    from local_fusion.batch.options import BatchOptions
    from local_fusion.batch.progress import Summary
    from local_fusion.config import Config
    from local_fusion.fusion.recipe import Recipe
    from local_fusion.trace import Tracer


def batch(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN.jsonl", help="Rows: id and prompt or messages, OpenAI batch lines, or text; gz too."
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="OUT/", help="The run's folder; the same one again resumes it.")],
    fusion: FusionOption = None,
    mode: ModeOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.")] = None,
    seed: Annotated[int, typer.Option(help="Root of all seeds.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row; start and write nothing.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed rows again.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume (implied by the same folder).")] = False,
    in_flight: Annotated[int | None, typer.Option(min=1, help="Rows in flight at most.")] = None,
    serial: Annotated[
        bool, typer.Option("--serial", help="One call at a time: slow, and real engines repeat themselves.")
    ] = False,
    trace: TraceOption = None,
    trace_remote: TraceRemoteOption = False,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that calls under way have after SIGTERM.")] = 30.0,
    config: ConfigOption = None,
) -> None:
    """Fuse every row of a file. Exit code 0: all good, 1: some rows failed, 2: wrong use, 75: interrupted."""
    from local_fusion.batch.folder import WRITTEN
    from local_fusion.batch.options import BatchOptions
    from local_fusion.config import load_config
    from local_fusion.errors import InputError
    from local_fusion.runtime import identity_of_models, recipe_of, versions
    from local_fusion.trace import open_tracer

    loaded = load_config(config)
    recipe = recipe_of(loaded, fusion, mode=checked_mode(mode))
    if resume and not (folder / "run.json").is_file():
        raise InputError(f"--resume: {folder} holds no run; leave --resume out to start one")
    options = BatchOptions(
        limit=limit,
        seed=seed,
        dry_run=dry_run,
        retry_failed=retry_failed,
        in_flight=1 if serial else in_flight or loaded.runtime.in_flight,
        grace_s=grace,
        journal_sync_s=loaded.runtime.journal_sync_s,
        identity=identity_of_models(loaded, recipe.settings.models),
        versions=versions(),
    )
    tracer = None if dry_run else open_tracer(trace, trace_remote, (source, *(folder / name for name in WRITTEN)))
    try:
        summary = asyncio.run(_batch(loaded, recipe, source, folder, options, serial, tracer))
    finally:
        if tracer is not None:
            tracer.close()
    raise typer.Exit(summary.exit_code)


async def _batch(
    config: Config,
    recipe: Recipe,
    source: Path,
    folder: Path,
    options: BatchOptions,
    serial: bool,
    tracer: Tracer | None,
) -> Summary:
    from dataclasses import replace

    from local_fusion.batch.check import check_run
    from local_fusion.batch.run import run_batch
    from local_fusion.batch.serial import SerialEngines
    from local_fusion.cli.batch_screen import BatchScreen
    from local_fusion.cli.interrupt import stop_on_signals
    from local_fusion.fusion.fuse import fuse
    from local_fusion.runtime import NoEngines, open_engines

    stop = asyncio.Event()
    screen = BatchScreen()
    options = replace(options, stop=stop)
    fuse_with = fuse if tracer is None else tracer.around(fuse)
    with stop_on_signals(stop), screen:
        if options.dry_run or not check_run(source, folder, recipe, options):
            summary = await run_batch(source, folder, NoEngines(), recipe, options, screen.show)
        else:
            async with open_engines(config, recipe.settings.models, screen.say) as engines:
                used = SerialEngines(engines) if serial else engines
                summary = await run_batch(source, folder, used, recipe, options, screen.show, fuse_with)
    screen.finish(summary)
    return summary
