"""`local-fusion eval`: what a fusion gains on a set of questions, measured against its members and every other way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_fusion.cli.options import ConfigOption, FusionOption
from local_fusion.errors import InputError, RunError

if TYPE_CHECKING:
    from local_fusion.config import Config
    from local_fusion.evaluate.evaluation import Order
    from local_fusion.evaluate.sets import EvalSet

SHIPPED = "shipped"
SHIPPED_ITEMS = 200


def evaluate(
    questions: Annotated[
        str, typer.Option("--set", metavar="FILE|NAME", help="A file of items, a name in --sets, or `shipped`.")
    ],
    fusion: FusionOption = None,
    sets: Annotated[Path | None, typer.Option(help="Folder of sets [default: LOCAL_FUSION_SETS]")] = None,
    arms: Annotated[str, typer.Option(help="Arms beside the members, by comma [default: all]")] = "",
    judge: Annotated[str | None, typer.Option(help="Judge instead of the fusion's own.")] = None,
    criteria: Annotated[str | None, typer.Option(help="What the judge must weigh in particular.")] = None,
    grader: Annotated[str | None, typer.Option(help="Model that grades rubrics and pairs [default: judge]")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Answers to beat: a published answer file.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many items.")] = None,
    seed: Annotated[int, typer.Option(help="Root of all seeds; of `shipped`, also which questions.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder; the same one again goes on or re-judges.")] = None,
    price: Annotated[float | None, typer.Option("--gpu-hour-price", min=0, help="Of one GPU for an hour.")] = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Items at once.")] = 64,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed calls again.")] = False,
    config: ConfigOption = None,
) -> None:
    """Measure a fusion on a set: members, votes, merges, self-samples, oracle over the same panel answers."""
    from local_fusion.config import load_config
    from local_fusion.evaluate.evaluation import Order
    from local_fusion.evaluate.plans import make_plan
    from local_fusion.evaluate.runner import STOPPED
    from local_fusion.runtime import recipe_of

    loaded = load_config(config)
    recipe = recipe_of(loaded, fusion, judge=judge, criteria=criteria)
    settings = recipe.settings
    alone = recipe_of(loaded, fusion, panel=[settings.judge_name], judge=settings.judge_name, mode="best-of", quorum=1)
    wanted = tuple(name.strip() for name in arms.split(",") if name.strip())
    items = _items(questions, sets, baseline, limit, seed)
    order = Order(
        items=items,
        recipe=recipe,
        plan=make_plan(recipe, wanted, alone),
        grader=grader or recipe.judge,
        folder=out or Path("evals") / f"{items.name}-{recipe.name}",
        seed=seed,
        in_flight=in_flight,
        price=price,
    )
    if order.grader not in loaded.models:
        raise InputError(f"--grader: no model is called {order.grader!r}; known are {', '.join(loaded.models)}")
    try:
        asyncio.run(_evaluate(loaded, order, retry_failed))
    except asyncio.CancelledError:  # the second signal
        raise RunError(STOPPED) from None


def _items(name: str, sets: Path | None, baseline: Path | None, limit: int | None, seed: int) -> EvalSet:
    from local_fusion.evaluate.sets import find_set, read_set

    if name == SHIPPED and not Path(name).is_file():
        if baseline is not None:
            raise InputError("--baseline: the shipped questions have right answers and nothing to beat; leave it out")
        return shipped_set(limit or SHIPPED_ITEMS, seed)
    return read_set(find_set(name, sets), baseline, limit)


def shipped_set(count: int, seed: int) -> EvalSet:
    """Held-out questions of the shipped models, drawn by seed. Raises InputError where there are not so many."""
    import hashlib

    from local_fusion.evaluate.forms import user
    from local_fusion.evaluate.items import Item
    from local_fusion.evaluate.sets import EvalSet
    from local_fusion.zoo.questions import as_row, questions

    try:
        drawn = questions(seed, count, "heldout")
    except ValueError as problem:
        raise InputError(f"--limit: {problem}") from None
    rows = [as_row(index, question) for index, question in enumerate(drawn)]
    items = [Item(row["id"], user(row["prompt"]), "given", row["expected"], kind=row["skill"]) for row in rows]
    digest = hashlib.sha256("\0".join(row["prompt"] for row in rows).encode()).hexdigest()
    return EvalSet(f"{SHIPPED}-{seed}", "generated", tuple(items), digest)


async def _evaluate(config: Config, order: Order, retry_failed: bool) -> None:
    from local_fusion.cli.eval_screen import EvalScreen
    from local_fusion.cli.interrupt import stop_on_signals
    from local_fusion.evaluate.evaluation import conclude, evaluate_opening
    from local_fusion.evaluate.store import CallStore
    from local_fusion.runtime import identity_of_models, open_engines, versions
    from local_fusion.zoo.grading import grade

    stop = asyncio.Event()
    store = CallStore(order.folder, identity_of_models(config, order.models), retry_failed, order.items.name)
    try:
        with EvalScreen() as screen, stop_on_signals(stop):
            evaluated = await evaluate_opening(
                order, store, lambda names: open_engines(config, names, screen.say), grade, stop, screen.hear
            )
        results = conclude(order, evaluated, versions())
        screen.finish(order, results, store.fresh)
    finally:
        store.close()
