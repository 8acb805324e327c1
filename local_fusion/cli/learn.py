"""`local-fusion calibrate --from`: kinds of prompts, and the recipe that won for each, from what was already run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from local_fusion.errors import InputError

if TYPE_CHECKING:
    from local_fusion.calibrate.space import Space
    from local_fusion.evaluate.sets import EvalSet


def learn_from(
    source: Path | None,
    space: Space,
    target: str,
    runs: Sequence[Path],
    feedback: Path | None,
    items: EvalSet | None,
    dry_run: bool,
) -> None:
    """Learn, write table and fusion where that is deserved, and say so."""
    from local_fusion.calibrate.evidence import page_of
    from local_fusion.calibrate.history import apply, kinds_file, next_version
    from local_fusion.calibrate.learning import evidence_of, learn
    from local_fusion.calibrate.marks import Marks, read_feedback, refuse_ambiguous
    from local_fusion.calibrate.past import read_prompts
    from local_fusion.calibrate.yaml_text import plain_settings
    from local_fusion.cli.calibrate_screen import show
    from local_fusion.zoo.grading import grade

    if not runs:
        raise InputError("say with --from what to learn from: folders of batches, or a server's state folder")
    if feedback is None and items is None:
        raise InputError("nothing tells right from wrong: add --feedback FILE, or --set FILE with the right answers")
    words = read_feedback(feedback) if feedback is not None else {}
    prompts = read_prompts(runs)
    marks = Marks(items.items if items is not None else (), words, grade)
    refuse_ambiguous(words, prompts, marks)
    version = next_version(source, target) if source is not None else 1
    found = learn(space, prompts, marks, version)
    wanted = found.settings
    if found.changes:
        wanted = wanted.model_copy(update={"kinds": kinds_file(target, version)})
    evidence = evidence_of(
        space, found, [str(run) for run in runs], plain_settings(space.present), plain_settings(wanted)
    )
    written = None
    if found.changes and not dry_run and source is not None:
        page, comment = page_of(evidence, found.steps), f"{space.name}, with kinds learnt from {found.graded} prompts"
        written = apply(source, target, wanted, evidence, page, found.table, comment)
    show(evidence, found.steps, None, target, written)
    if dry_run:
        typer.echo("Nothing was changed: this was a dry run.")
