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
from local_fusion.report.choose import Choice, Place, order
from local_fusion.report.effort import stage_and_model
from local_fusion.report.folder import Asked, Run, open_run, prompts, read_line_at, records
from local_fusion.report.history import History, read_history
from local_fusion.report.page import BrowserRow
from local_fusion.report.rows import answered, failed, size_of, under_way

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
    def ended(self) -> int:
        """Rows that have ended, either way."""
        return self.history.succeeded + self.history.failed

    @property
    def total(self) -> int:
        """Rows of the run; those that an earlier session did beyond a smaller limit of today are of them."""
        return max(self.run.rows, self.ended)

    @property
    def rest(self) -> int:
        """Rows that have not ended."""
        return self.total - self.ended


def facts_of(folder: Path, choice: Choice | None = None) -> Facts:
    """Read the run in `folder`. Raises InputError where there is none."""
    run = open_run(folder)
    history = read_history(run, choice)
    shown, compared = history.choice.shown, history.choice.compared
    opened = dict(sorted(history.open_rows.items())[:OPEN_ROWS])
    on_page = {place.line for place in shown} | set(opened)
    asked = prompts(run, on_page | {place.line for place in compared}, on_page)
    facts = Facts(run, history)
    listed: dict[int, BrowserRow] = {}
    for name in (OUTPUT, ERRORS):
        of_file = {place.ordinal: place for place in shown | compared if place.file == name}
        size = history.sizes[name] if history.bytes_read else None
        for ordinal, record in enumerate(records(run, name, size)):
            _one(facts, record, name, of_file.get(ordinal), shown, compared, asked, listed)
    listed |= {line: _open_row(run, line, places, asked.get(line)) for line, places in opened.items()}
    _list(facts, listed, {place.line for place in history.choice.particular} | set(opened))
    return facts


def _one(
    facts: Facts,
    record: Mapping[str, Any],
    name: str,
    place: Place | None,
    shown: set[Place],
    compared: set[Place],
    asked: Mapping[int, Asked],
    listed: dict[int, BrowserRow],
) -> None:
    """Count one record, and keep it where it was drawn. One of another shape is noted and passed over."""
    try:
        if name == OUTPUT:
            _count(facts, record["response"]["body"]["fusion"])
        if place is None:
            return
        known = asked.get(place.line)
        prompt, question = (known.text, known.question) if known else (None, "")
        agree = _compare(facts, record, question) if name == OUTPUT and place in compared else None
        if place in shown:
            row = answered(record, place.line, prompt, agree) if name == OUTPUT else failed(record, place.line, prompt)
            listed[place.line] = row
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


def _compare(facts: Facts, record: Mapping[str, Any], question: str) -> bool | None:
    body = record["response"]["body"]
    final = body["choices"][0]["message"].get("content") or ""
    return facts.agreement.add(question, body["fusion"]["responses"], final)


def _open_row(run: Run, line: int, places: list[int], known: Asked | None) -> BrowserRow:
    calls, row_id = [], known.id if known else f"line {line}"
    for place in places:
        record = orjson.loads(read_line_at(run, place))
        calls.append((stage_and_model(record["id"], None)[0], record))
    return under_way(row_id, line, known.text if known else None, calls)


def _list(facts: Facts, listed: Mapping[int, BrowserRow], particular: set[int]) -> None:
    """As many rows as the page takes, in the order of the input: those that ask for attention before the others."""
    chars, taken = 0, []
    for line in sorted(listed, key=lambda line: (line not in particular, order(line))):
        size = size_of(listed[line])
        if chars + size <= PAGE_CHARS:
            chars += size
            taken.append(line)
    facts.rows += [listed[line] for line in sorted(taken)]
    facts.left_out = len(listed) - len(taken)


def _more(counts: dict[str, int], name: str) -> None:
    if name not in counts and len(counts) >= PHRASES:
        name = "others"
    counts[name] = counts.get(name, 0) + 1
