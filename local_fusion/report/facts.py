"""Everything a run's report says, counted in one pass over each file of the folder, in memory that does not grow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from local_fusion.batch.past import ERRORS, OUTPUT
from local_fusion.report.agreement import Agreement
from local_fusion.report.choose import Choice, Place
from local_fusion.report.effort import stage_and_model
from local_fusion.report.folder import Run, conversation, open_run, prompts, read_line_at, records
from local_fusion.report.history import History, read_history
from local_fusion.report.page import BrowserRow
from local_fusion.report.rows import answered, failed, size_of, under_way
from local_fusion.types import Request

PAGE_CHARS = 16_000_000
"""Characters of rows in one page, about."""
PHRASES = 200
OPEN_ROWS = 100
_STEPS_PER_DOUBLING = 8


@dataclass
class Spread:
    """A distribution of positive numbers in steps of a ninth: middle and tail without keeping the numbers."""

    counts: dict[int, int] = field(default_factory=dict)

    def add(self, value: float) -> None:
        step = round(math.log2(max(value, 1e-6)) * _STEPS_PER_DOUBLING)
        self.counts[step] = self.counts.get(step, 0) + 1

    def at(self, share: float) -> float | None:
        """The value that `share` of the numbers do not exceed, about; None of none."""
        wanted, seen = share * sum(self.counts.values()), 0
        for step, count in sorted(self.counts.items()):
            seen += count
            if seen >= wanted:
                return float(2.0 ** (step / _STEPS_PER_DOUBLING))
        return None


@dataclass
class Facts:
    """`degraded`: rows by what was missing; `kept`: rows by what the guard returned; `seconds`: of a row."""

    run: Run
    history: History
    agreement: Agreement = field(default_factory=Agreement)
    degraded: dict[str, int] = field(default_factory=dict)
    why: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    aborted: int = 0
    seconds: Spread = field(default_factory=Spread)
    rows: list[BrowserRow] = field(default_factory=list)
    left_out: int = 0

    @property
    def rest(self) -> int:
        """Rows that have not ended."""
        return max(0, self.run.rows - self.history.succeeded - self.history.failed)


def facts_of(folder: Path, choice: Choice | None = None) -> Facts:
    """Read the run in `folder`. Raises InputError where there is none."""
    run = open_run(folder)
    history = read_history(run, choice)
    shown, compared = history.choice.shown, history.choice.compared
    opened = dict(sorted(history.open_rows.items())[:OPEN_ROWS])
    asked = prompts(run, {place.line for place in shown | compared} | set(opened))
    facts = Facts(run, history)
    listed: list[tuple[int, BrowserRow]] = []
    for name in (OUTPUT, ERRORS):
        of_file = {place.ordinal: place for place in shown | compared if place.file == name}
        size = history.sizes[name] if history.bytes_read else None
        for ordinal, record in enumerate(records(run, name, size)):
            _one(facts, record, name, of_file.get(ordinal), shown, compared, asked, listed)
    listed += [(line, _open_row(run, line, places, asked.get(line))) for line, places in opened.items()]
    _list(facts, listed)
    return facts


def _one(
    facts: Facts,
    record: Mapping[str, Any],
    name: str,
    place: Place | None,
    shown: set[Place],
    compared: set[Place],
    asked: Mapping[int, Request],
    listed: list[tuple[int, BrowserRow]],
) -> None:
    """Count one record, and keep it where it was drawn. One of another shape is noted and passed over."""
    try:
        if name == OUTPUT:
            _count(facts, record["response"]["body"]["fusion"])
        if place is None:
            return
        request = asked.get(place.line)
        prompt = conversation(request.messages) if request else None
        agree = _compare(facts, record, request) if name == OUTPUT and place in compared else None
        if place in shown:
            row = answered(record, place.line, prompt, agree) if name == OUTPUT else failed(record, place.line, prompt)
            listed.append((place.line, row))
    except (KeyError, TypeError, IndexError, AttributeError):
        told = f"some lines of {name} are of another shape and not counted here"
        if told not in facts.run.problems:
            facts.run.problems.append(told)


def _count(facts: Facts, fusion: Mapping[str, Any]) -> None:
    for phrase in fusion["degraded"]:
        _more(facts.degraded, phrase)
    _more(facts.why, fusion["why"])
    verdict = fusion.get("verdict")
    _more(facts.kept, verdict["kept"] if verdict else "none")
    facts.aborted += fusion["aborted"]
    facts.seconds.add(fusion["seconds"])


def _compare(facts: Facts, record: Mapping[str, Any], request: Request | None) -> bool | None:
    body = record["response"]["body"]
    said = [message.content for message in request.messages if message.role == "user"] if request else []
    final = body["choices"][0]["message"].get("content") or ""
    return facts.agreement.add(said[-1] if said else "", body["fusion"]["responses"], final)


def _open_row(run: Run, line: int, places: list[int], request: Request | None) -> BrowserRow:
    calls, row_id = [], request.id if request else f"line {line}"
    for place in places:
        record = orjson.loads(read_line_at(run, place))
        calls.append((stage_and_model(record["id"], None)[0], record))
    return under_way(row_id, line, conversation(request.messages) if request else None, calls)


def _list(facts: Facts, listed: list[tuple[int, BrowserRow]]) -> None:
    chars = 0
    for _, row in sorted(listed, key=lambda entry: entry[0]):
        chars += size_of(row)
        if chars > PAGE_CHARS:
            facts.left_out += 1
        else:
            facts.rows.append(row)


def _more(counts: dict[str, int], name: str) -> None:
    if name not in counts and len(counts) >= PHRASES:
        name = "others"
    counts[name] = counts.get(name, 0) + 1
