"""What a benchmark found, in one form for the screen and for RESULTS.md.

Invariant: a figure names its aim, every run behind it and what bounds it; a figure that falls short is written down
like any other.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

COLLECT = "LOCAL_FUSION_FIGURES"
"""Names the file that figures are appended to, as JSON lines."""


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` is the median of `runs`. `aim` in words; `holds`: None where there is no aim. `bound`: what bounds it."""

    group: str
    what: str
    value: float
    unit: str
    runs: tuple[float, ...]
    aim: str = ""
    holds: bool | None = None
    bound: str = ""
    conditions: str = ""


def at_least(group: str, what: str, runs: list[float], unit: str, aim: float, **rest: str) -> Figure:
    """A figure that should not be below `aim`."""
    value = median(runs)
    return Figure(group, what, value, unit, tuple(runs), f"at least {aim:g}", value >= aim, **rest)


def at_most(group: str, what: str, runs: list[float], unit: str, aim: float, **rest: str) -> Figure:
    """A figure that should not be above `aim`."""
    value = median(runs)
    return Figure(group, what, value, unit, tuple(runs), f"at most {aim:g}", value <= aim, **rest)


def plain(group: str, what: str, runs: list[float], unit: str, **rest: str) -> Figure:
    """A figure without an aim."""
    return Figure(group, what, median(runs), unit, tuple(runs), **rest)


def tell(figure: Figure) -> None:
    """Print a figure, and note it for RESULTS.md where it is collected."""
    word = "" if figure.holds is None else f" ({figure.aim}: {'holds' if figure.holds else 'FALLS SHORT'})"
    spread = (
        f", {len(figure.runs)} runs {min(figure.runs):.4g} to {max(figure.runs):.4g}" if len(figure.runs) > 1 else ""
    )
    print(f"{figure.what}: {figure.value:.4g} {figure.unit}{word}{spread}", flush=True)
    place = os.environ.get(COLLECT)
    if place:
        with Path(place).open("a") as file:
            file.write(json.dumps(asdict(figure)) + "\n")
