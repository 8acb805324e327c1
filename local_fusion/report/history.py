"""The journal of a run read once from end to end: how far each row got, what every call took, which rows to show.

As in a resume, only what an end record vouches for counts; rows that were to be run again count as never ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from local_fusion.batch.past import ERRORS, OUTPUT
from local_fusion.batch.tally import Tally
from local_fusion.report.choose import Choice, Place
from local_fusion.report.effort import Effort
from local_fusion.report.folder import Run, journal_lines

QUIET_MARKS = ("guarded", "analysed")
"""Marks that most rows of a run bear: no reason to look at one."""
_CALL, _END = b'{"call":', b'{"end":'


@dataclass
class History:
    """`tallies` by file; `sizes`: bytes of each file that count; `open_rows`: line to the places of its calls."""

    effort: Effort = field(default_factory=Effort)
    choice: Choice = field(default_factory=Choice)
    tallies: dict[str, Tally] = field(default_factory=lambda: {OUTPUT: Tally(), ERRORS: Tally()})
    sizes: dict[str, int] = field(default_factory=lambda: {OUTPUT: 0, ERRORS: 0})
    ended: dict[str, int] = field(default_factory=lambda: {OUTPUT: 0, ERRORS: 0})
    open_rows: dict[int, list[int]] = field(default_factory=dict)
    sessions: int = 0
    bytes_read: int = 0

    @property
    def succeeded(self) -> int:
        return self.ended[OUTPUT]

    @property
    def failed(self) -> int:
        return self.ended[ERRORS]


def read_history(run: Run, choice: Choice | None = None) -> History:
    """One pass; what cannot be read is noted in `run.problems` and ends it."""
    history = History(choice=choice or Choice())
    for place, raw in journal_lines(run):
        try:
            _take(history, orjson.loads(raw), raw, place)
        except (ValueError, KeyError, TypeError, AttributeError):
            run.problems.append(f"the journal is damaged at byte {place}; what follows is not in this report")
            break
        history.bytes_read = place + len(raw)
    return history


def _take(history: History, record: dict[str, Any], raw: bytes, place: int) -> None:
    if raw.startswith(_CALL):
        history.effort.add(record)
        history.open_rows.setdefault(record["call"], []).append(place)
    elif raw.startswith(_END):
        _end(history, record)
    elif "retry" in record:
        history.tallies[ERRORS], history.sizes[ERRORS], history.ended[ERRORS] = Tally(), 0, 0
        history.choice.drop(ERRORS)
    else:
        history.sessions = max(history.sessions, record["session"])
        history.effort.timeline.session()


def _end(history: History, end: dict[str, Any]) -> None:
    name, line = end["to"], end["end"]
    history.tallies[name].add(end)
    history.sizes[name] = end["at"]
    history.open_rows.pop(line, None)
    is_answered = name == OUTPUT
    kinds = [mark for mark in end.get("marks", ()) if mark not in QUIET_MARKS]
    kinds += [] if is_answered else ["failed"]
    kinds += ["member failed"] if is_answered and end["reasons"] else []
    history.choice.offer(Place(name, history.ended[name], line), kinds, is_answered)
    history.ended[name] += 1
