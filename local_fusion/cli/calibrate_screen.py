"""What `calibrate` shows at its end: the sentence, what changed, each question's choice, and where it all lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local_fusion.calibrate.evidence import changed_keys
from local_fusion.calibrate.history import Change
from local_fusion.calibrate.steps import Step

Written = tuple[int, list[Path]]


def show(
    evidence: Mapping[str, Any], steps: Sequence[Step], folder: Path | None, target: str, written: Written | None
) -> None:
    """On stdout. `folder`: where the evidence lies in any case; `written`: version and files, if anything changed."""
    out = Console(highlight=False)
    for step in steps:
        if not step.question.startswith("Prompts of kind"):
            out.print(f"[bold]{escape(step.question)}[/]", soft_wrap=True)
            out.print(f"  {escape(step.why)}", soft_wrap=True)
    out.print()
    if written is not None:
        table = Table(box=None, pad_edge=False)
        for column in ("setting", "before", "after"):
            table.add_column(column, overflow="fold")
        for row in changed_keys(evidence["before"], evidence["after"]):
            table.add_row(*map(escape, row))
        out.print(table)
    for note in evidence["notes"]:
        out.print(f"[yellow]! {escape(note)}[/]", soft_wrap=True)
    if "calls" in evidence:
        out.print(f"{evidence['calls']:,} calls were run, in {evidence['seconds']:,.0f} s.", soft_wrap=True)
    if written is None:
        where = f" {folder}/: calibration.md" if folder is not None else ""
        out.print(escape(f"Fusion {target}: {evidence['why']}.{where}"), soft_wrap=True)
        return
    version, files = written
    out.print(f"Fusion {escape(target)}, version {version}: {escape(evidence['why'])}.", soft_wrap=True)
    page = next(path for path in files if path.suffix == ".md")
    out.print(
        f"Written: {escape(files[-1].name)}; the evidence: {escape(str(page))}. "
        f"Take it back with: local-fusion calibrate --undo {escape(target)}",
        soft_wrap=True,
    )


def show_history(changes: Sequence[Change]) -> None:
    """One line a change, oldest first."""
    out = Console(highlight=False)
    if not changes:
        out.print("no fusion of this configuration was calibrated yet")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("fusion", "version", "when", "what", "why", "taken back"):
        table.add_column(column, overflow="fold")
    for one in changes:
        table.add_row(*map(escape, (one.name, str(one.version), one.at, one.action, one.why, one.undone_at or "-")))
    out.print(table)
