"""`local-fusion calibrate`: find the best arrangement of a fusion's models by measuring; write it into models.yaml."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_fusion.cli.options import ConfigOption, FusionOption
from local_fusion.errors import InputError, RunError

if TYPE_CHECKING:
    from local_fusion.calibrate.calibration import Calibrated, Order
    from local_fusion.config import Config
    from local_fusion.evaluate.sets import EvalSet

CALIBRATION = "calibration.json"


def calibrate(
    more: Annotated[list[Path] | None, typer.Argument(metavar="[RUN]...", help="More runs for --from.")] = None,
    questions: Annotated[
        str | None, typer.Option("--set", metavar="FILE|NAME", help="Items with right answers, or `shipped`.")
    ] = None,
    fusion: FusionOption = None,
    name: Annotated[str | None, typer.Option(help="Write it as a new fusion of this name [default: --fusion]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of calls and evidence; the same one goes on.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run; start and change nothing.")
    ] = False,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="RUN", help="Learn kinds of prompts from batch folders or server receipts."),
    ] = None,
    feedback: Annotated[
        Path | None, typer.Option(help="With --from: what users said, a server's feedback.jsonl.")
    ] = None,
    undo: Annotated[str | None, typer.Option(metavar="NAME", help="Take back the last change of this fusion.")] = None,
    history: Annotated[bool, typer.Option("--history", help="List the changes of this configuration.")] = False,
    sets: Annotated[Path | None, typer.Option(help="Folder of sets [default: LOCAL_FUSION_SETS]")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many items.")] = None,
    samples: Annotated[int, typer.Option(min=1, max=8, help="Samples of a member tried at most.")] = 3,
    seed: Annotated[int, typer.Option(help="Root of all seeds; of `shipped`, also which questions.")] = 0,
    grader: Annotated[str | None, typer.Option(help="Model that grades rubrics and pairs [default: judge]")] = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Items at once.")] = 64,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed calls again.")] = False,
    config: ConfigOption = None,
) -> None:
    """Find out who should judge, write and vote, and write the better fusion; or learn kinds from what was run."""
    from local_fusion.calibrate.calibration import Order
    from local_fusion.calibrate.history import check_can_be_written, next_version, own_file
    from local_fusion.calibrate.space import Space
    from local_fusion.config import load_config

    loaded = load_config(config)
    if undo is not None and dry_run:
        raise InputError("--undo changes models.yaml; leave --dry-run out, and see with --history what would be undone")
    if history or undo is not None:
        _look_back(loaded, undo)
        return
    fusion_name = loaded.fusion_name(fusion)
    base = loaded.source.parent if loaded.source else None
    space = Space(fusion_name, loaded.fusions[fusion_name], loaded.models, base)
    target = name or fusion_name
    source = loaded.source if dry_run else own_file(loaded.source)
    if name is not None and name != fusion_name and name in loaded.fusions:
        raise InputError(
            f"there is a fusion called {name!r}; choose another name, or calibrate it with --fusion {name}"
        )
    if source is not None and not dry_run:
        check_can_be_written(source, target)
    if runs or more or feedback is not None:
        from local_fusion.cli.learn import learn_from

        items = _items(questions, sets, limit, seed) if questions is not None else None
        learn_from(source, space, target, [*(runs or ()), *(more or ())], feedback, items, dry_run)
        return
    if questions is None:
        raise InputError("say what to measure on with --set FILE, or what to learn from with --from RUN")
    items = _items(questions, sets, limit, seed)
    order = Order(
        items=items,
        space=space,
        grader=grader or space.present.judge_name,
        folder=out or Path("evals") / f"calibrate-{items.name}-{fusion_name}",
        version=next_version(source, target) if source is not None else 1,
        most_samples=samples,
        seed=seed,
        in_flight=in_flight,
    )
    if order.grader not in loaded.models:
        raise InputError(f"--grader: no model is called {order.grader!r}; known are {', '.join(loaded.models)}")
    if dry_run:
        _plan(order)
        return
    try:
        found = asyncio.run(_calibrate(loaded, order, retry_failed))
    except asyncio.CancelledError:  # the second signal
        raise RunError("the calibration was stopped; run the same command again to go on") from None
    _conclude(order, found, target, own_file(loaded.source))


def _items(questions: str, sets: Path | None, limit: int | None, seed: int) -> EvalSet:
    from local_fusion.cli.evaluate import SHIPPED, SHIPPED_ITEMS, shipped_set
    from local_fusion.evaluate.sets import find_set, read_set

    if questions == SHIPPED and not Path(questions).is_file():
        return shipped_set(limit or SHIPPED_ITEMS, seed)
    return read_set(find_set(questions, sets)).first(limit)


async def _calibrate(config: Config, order: Order, retry_failed: bool) -> Calibrated:
    from local_fusion.calibrate.calibration import calibrate_opening
    from local_fusion.cli.eval_screen import EvalScreen
    from local_fusion.cli.interrupt import stop_on_signals
    from local_fusion.evaluate.store import CallStore
    from local_fusion.runtime import identity_of_models, open_engines
    from local_fusion.zoo.grading import grade

    stop = asyncio.Event()
    store = CallStore(order.folder, identity_of_models(config, order.models), retry_failed)
    try:
        with EvalScreen() as screen, stop_on_signals(stop):
            return await calibrate_opening(
                order,
                store,
                lambda names: open_engines(config, names, screen.say),
                grade,
                stop,
                screen.hear,
                again=(order.folder / CALIBRATION).exists(),
            )
    finally:
        store.close()


def _conclude(order: Order, found: Calibrated, target: str, source: Path) -> None:
    """Write the evidence, change the file where that is deserved, and say so."""
    from local_fusion.batch.files import write_atomically
    from local_fusion.batch.records import dump
    from local_fusion.calibrate.evidence import evidence_of, page_of
    from local_fusion.calibrate.history import apply, kinds_file, next_version
    from local_fusion.cli.calibrate_screen import show
    from local_fusion.runtime import versions

    evidence = evidence_of(order, found, versions(), kinds_file(target, next_version(source, target)))
    page = page_of(evidence, found.steps)
    write_atomically(order.folder / CALIBRATION, dump(evidence) + b"\n")
    write_atomically(order.folder / "calibration.md", page.encode())
    written = None
    if found.changes:
        comment = f"{order.space.name}, calibrated on {order.items.name}"
        written = apply(source, target, found.settings, evidence, page, found.table, comment)
    show(evidence, found.steps, order.folder, target, written)


def _plan(order: Order) -> None:
    from local_fusion.calibrate.calibration import FIT, HELD_OUT
    from local_fusion.calibrate.space import names_of

    fit, held_out = order.half(FIT), order.half(HELD_OUT)
    pool = order.space.pool
    answers = sum(seat.samples for seat in pool)
    typer.echo(
        f"{order.items.name}: {len(fit)} items to choose on, {len(held_out)} kept back. Fusion {order.space.name}: "
        f"{names_of(pool)} in every role, judge now {order.space.present.judge_name}. "
        f"At least {answers * len(fit):,} calls for their answers, then {len(pool)} judges, {len(pool)} writers and "
        f"panels with one and two left out: some {_judge_calls(len(pool)) * len(fit):,} short reads and "
        f"{2 * len(pool) * len(fit):,} texts at most. Nothing was started or changed."
    )


def _judge_calls(models: int) -> int:
    """Label reads per item at most: two orders and a pair, for each judge and each panel tried; two per guard."""
    panels = models + models * (models - 1) // 2 + models * (models - 1) // 2
    return 4 * (models + panels) + 6 * models


def _look_back(config: Config, undo: str | None) -> None:
    from local_fusion.calibrate import history
    from local_fusion.cli.calibrate_screen import show_history

    source = history.own_file(config.source)
    if undo is not None:
        typer.echo(history.undo(source, undo))
        return
    show_history(history.changes(source))
