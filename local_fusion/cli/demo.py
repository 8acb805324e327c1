"""`local-fusion demo`: the shipped models fuse a batch of generated questions; then every member and mode, compared."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_fusion.cli.options import ConfigOption
from local_fusion.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from local_fusion.batch.progress import Summary
    from local_fusion.cli.batch_screen import BatchScreen
    from local_fusion.config import Config
    from local_fusion.engine import Engines
    from local_fusion.evaluate.arms import Arm, Question
    from local_fusion.fusion.recipe import Recipe

FUSION = "demo"
MAIN = "merge"


def demo(
    rows: Annotated[int, typer.Option(min=4, max=800, help="Questions.")] = 200,
    seed: Annotated[int | None, typer.Option(help="Seed of the questions [default: the time]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results [default: runs/demo-SEED]")] = None,
    only_main: Annotated[bool, typer.Option("--only-main", help="Only the main batch, no comparison.")] = False,
    config: ConfigOption = None,
) -> None:
    """Run 200 held-out questions through three small real models and a judge, and compare members and modes."""
    from local_fusion.config import load_config

    chosen = int(time.time()) % 1_000_000 if seed is None else seed
    folder = out or Path("runs") / f"demo-{chosen}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is no empty folder; name another folder with --out, or leave --seed out")
    shipped = load_config(config or Path(__file__).parents[1] / "models.yaml")
    asyncio.run(_demo(shipped, rows, chosen, folder, only_main))


async def _demo(config: Config, rows: int, seed: int, folder: Path, only_main: bool) -> None:
    from rich.console import Console

    from local_fusion.cli.batch_screen import BatchScreen
    from local_fusion.runtime import open_engines, recipe_of

    console = Console()
    questions = write_questions(folder, rows, seed)
    models = ", ".join(config.fusion(FUSION).models)
    console.print(f"{rows} held-out questions, seed {seed}; models: {models}", soft_wrap=True)
    started = time.monotonic()
    with BatchScreen() as screen:
        async with open_engines(config, config.fusion(FUSION).models, screen.say) as engines:
            console.print(f"engines ready after {time.monotonic() - started:.1f} s")
            main = recipe_of(config, FUSION, mode=MAIN)
            arm, summary = await _run(MAIN, main, engines, questions, folder, screen, True)
            screen.finish(summary)
            arms = [arm] if only_main else await _others(config, engines, questions, folder, screen, arm)
    (folder / "results.json").write_text(json.dumps(_results(arms, seed), indent=2) + "\n")
    console.print(table(arms, rows, seed))
    console.print(f"Answers and receipts: {folder}/*/output.jsonl; this table: {folder}/results.json", soft_wrap=True)


async def _others(
    config: Config, engines: Engines, questions: list[Question], folder: Path, screen: BatchScreen, main: Arm
) -> list[Arm]:
    """Every member alone, the judge alone, and every other mode: each a batch of its own on the same questions."""
    from local_fusion.runtime import recipe_of
    from local_fusion.types import MODES

    settings = config.fusion(FUSION)
    arms = []
    for model in settings.models:
        alone = recipe_of(config, FUSION, panel=[model], judge=model, writer=[model], mode="best-of", quorum=1)
        name = model + (" (judge)" if model == settings.judge_name else "")
        arms.append((await _run(name, alone, engines, questions, folder, screen, False))[0])
    for mode in MODES:
        if mode == MAIN:
            arms.append(main)
        else:
            recipe = recipe_of(config, FUSION, mode=mode)
            arms.append((await _run(mode, recipe, engines, questions, folder, screen, True))[0])
    return arms


async def _run(
    name: str,
    recipe: Recipe,
    engines: Engines,
    questions: list[Question],
    folder: Path,
    screen: BatchScreen,
    is_fusion: bool,
) -> tuple[Arm, Summary]:
    from local_fusion.batch.options import BatchOptions
    from local_fusion.batch.run import run_batch
    from local_fusion.evaluate.arms import grade_run
    from local_fusion.zoo.grading import grade

    place = folder / name.split()[0]
    screen.title = name
    summary = await run_batch(folder / "questions.jsonl", place, engines, recipe, BatchOptions(), screen.show)
    return grade_run(name, place, summary, questions, grade, is_fusion), summary


def write_questions(folder: Path, rows: int, seed: int) -> list[Question]:
    """Draw held-out questions and write the batch's input file; the right answers stay here."""
    from local_fusion.evaluate.arms import Question
    from local_fusion.zoo.questions import as_row, questions

    folder.mkdir(parents=True, exist_ok=True)
    drawn = [as_row(index, question) for index, question in enumerate(questions(seed, rows, "heldout"))]
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as lines:
        for row in drawn:
            lines.write(json.dumps({"id": row["id"], "prompt": row["prompt"]}) + "\n")
    return [Question(row["id"], row["prompt"], row["expected"]) for row in drawn]


def table(arms: list[Arm], rows: int, seed: int) -> Table:
    """One line per arm: share of right answers with its interval, gain over the best member, tokens, seconds."""
    from rich.table import Table

    from local_fusion.evaluate.arms import best_single

    result = Table(
        title=f"{rows} held-out questions, seed {seed} (95 % intervals)",
        caption="gain: over the best member alone, question by question",
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    result.add_column("", no_wrap=True)
    for column in ("right %", "interval", "gain", "interval", "tokens", "seconds"):
        result.add_column(column, justify="right", no_wrap=True)
    best = best_single(arms) if any(not arm.is_fusion for arm in arms) else None
    for arm in arms:
        gain = span = ""
        if best is not None and arm.is_fusion:
            over = arm.gain_over(best)
            gain, span = f"{100 * over.value:+.1f}", f"{100 * over.low:+.1f} {100 * over.high:+.1f}"
        part = arm.share
        result.add_row(
            arm.name,
            f"{100 * part.value:.1f}",
            f"{100 * part.low:.1f} {100 * part.high:.1f}",
            gain,
            span,
            f"{arm.tokens:,}",
            f"{arm.seconds:.1f}",
            style="bold" if arm.is_fusion else "",
        )
    return result


def _results(arms: list[Arm], seed: int) -> dict[str, object]:
    return {
        "seed": seed,
        "questions": len(arms[0].right),
        "arms": [
            {
                "arm": arm.name,
                "right": arm.share.value,
                "low": arm.share.low,
                "high": arm.share.high,
                "tokens": arm.tokens,
                "seconds": arm.seconds,
            }
            for arm in arms
        ],
    }
