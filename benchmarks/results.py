"""RESULTS.md out of the figures that the benchmarks noted: machine, versions, a table per group."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from local_fusion.runtime import versions

_FEW = 10
HEAD = """# Results

Written by `make bench`; `make bench NAMES="..."` measures single ones again. Each figure is the median of the runs
beside it; one that falls short stands here too.

"""


def write(figures: Iterable[Mapping[str, Any]], place: Path) -> None:
    """Write the page, the figures in the order given."""
    lines = [HEAD, _machine(), "\n"]
    for group, entries in groupby(figures, key=lambda figure: figure["group"]):
        lines.append(f"\n## {group}\n\n| what | median | aim | runs |\n|---|---|---|---|\n")
        notes: list[str] = []
        dates: list[str] = []
        for figure in entries:
            lines.append(_row(figure))
            dates.append(figure["date"])
            notes += [note for note in (figure["conditions"], figure["bound"]) if note and note not in notes]
        lines += [f"\n{note}\n" for note in notes]
        lines.append(f"\nMeasured on {max(dates)}.\n")
    place.write_text("".join(lines))


def _row(figure: Mapping[str, Any]) -> str:
    runs = _runs(figure["runs"])
    aim = figure["aim"] if figure["holds"] in (None, True) else f"{figure['aim']} — **falls short**"
    return f"| {figure['what']} | {_number(figure['value'])} {figure['unit']} | {aim} | {runs} |\n"


def _runs(runs: Sequence[float]) -> str:
    """Each of a few, the range of many."""
    if len(runs) <= _FEW:
        return ", ".join(_number(run) for run in runs)
    return f"{len(runs)}, from {_number(min(runs))} to {_number(max(runs))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{os.cpu_count()} cores, {memory:.0f} GB, no GPU · Python {platform.python_version()} · {told}\n"
