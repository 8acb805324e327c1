"""RESULTS.md out of the figures that the benchmarks noted: machine, versions, a table per group."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from local_fusion.runtime import versions

_FEW = 10
HEAD = """# Results

Written by `make bench`. Each figure is the median of the runs beside it; one that falls short stands here too.

"""


def write(figures: Iterable[Mapping[str, Any]], place: Path, broken: Sequence[str] = ()) -> None:
    """Write the page, the figures in the order they were found; `broken`: benchmarks that did not end."""
    lines = [HEAD, _machine(), "\n"]
    lines += [f"\n**`{name}` did not end: what it should have measured is missing here.**\n" for name in broken]
    for group, entries in groupby(figures, key=lambda figure: figure["group"]):
        lines.append(f"\n## {group}\n\n| what | median | aim | runs |\n|---|---|---|---|\n")
        notes: list[str] = []
        for figure in entries:
            lines.append(_row(figure))
            notes += [note for note in (figure["conditions"], figure["bound"]) if note and note not in notes]
        lines += [f"\n{note}\n" for note in notes]
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
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today} · {os.cpu_count()} cores, {memory:.0f} GB, no GPU · Python {platform.python_version()} · {told}\n"
