"""A run folder as a report finds it: finished, under way, interrupted or killed. Reads only, and whole lines only.

Nothing here can stop a report: what is missing or damaged becomes a sentence in `problems`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from local_fusion.answers.text import QUESTION_CHARACTERS
from local_fusion.batch.folder import RUN
from local_fusion.batch.lines import digest_file, read_lines
from local_fusion.batch.past import ERRORS, JOURNAL, OUTPUT
from local_fusion.batch.rows import BadRow, Terms, read_row
from local_fusion.errors import InputError
from local_fusion.report.rows import cut
from local_fusion.types import Message, Request, Sampling


@dataclass
class Run:
    """`path` of the folder, what run.json says, and sentences about what could not be read."""

    path: Path
    about: Mapping[str, Any]
    problems: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows this run is to do: those of the input, or its limit."""
        rows, limit = int(self.about["input"]["rows"]), self.about.get("limit")
        return rows if limit is None else min(rows, int(limit))

    @property
    def fusion(self) -> str:
        return str(self.about.get("identity", {}).get("fusion", "?"))


@dataclass(frozen=True, slots=True)
class Asked:
    """Of a row's request, what a report needs, however long it was: its id, the conversation as the page shows it
    ("" where it does not), and the end of the last question, all that a comparer reads of it."""

    id: str
    text: str
    question: str


def open_run(path: Path) -> Run:
    """The run in the folder `path`. Raises InputError where there is none."""
    try:
        about = orjson.loads((path / RUN).read_bytes())
        known = isinstance(about, dict) and isinstance(about["input"]["rows"], int)
    except OSError:
        raise InputError(f"{path} holds no {RUN}; name the output folder of a batch") from None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise InputError(f"{path / RUN} is damaged; run the batch again to have it written anew")
    return Run(path, about)


def journal_lines(run: Run) -> Iterator[tuple[int, bytes]]:
    """Place and bytes of each whole line of the journal; none where it is gone, which is noted."""
    yield from _lines(run, JOURNAL, None)


def records(run: Run, name: str, size: int | None) -> Iterator[dict[str, Any]]:
    """The JSON lines of output or errors within the first `size` bytes (None: all whole ones)."""
    if not size and (size is not None or not (run.path / name).exists()):
        return
    for place, raw in _lines(run, name, size):
        try:
            yield orjson.loads(raw)
        except ValueError:
            run.problems.append(f"{name} is damaged at byte {place}; what follows is not in this report")
            return


def prompts(run: Run, lines: set[int], shown: set[int]) -> dict[int, Asked]:
    """What these lines of the input ask, with the text of those `shown`; nothing where the input is gone or another,
    which is noted."""
    source = Path(run.about["input"]["path"])
    found: dict[int, Asked] = {}
    if not lines:
        return found
    try:
        if digest_file(source) != run.about["input"]["sha256"]:
            run.problems.append(f"{source.name} is not the input as it was when the run began: prompts are not shown")
            return found
        last = max(lines)
        for line, raw in read_lines(source):
            if line in lines:
                request = request_of(line, raw, run)
                if request is not None:
                    found[line] = _asked(request, line in shown)
            if line >= last:
                break
    except InputError:
        run.problems.append(f"{source.name} cannot be read any more: prompts are not shown")
    return found


def request_of(line: int, raw: bytes | None, run: Run) -> Request | None:
    """The request a line of the input stands for; None where it is none."""
    row = read_row(line, raw, Terms(run.fusion, 0, Sampling(), Path(run.about["input"]["path"]).name))
    return None if isinstance(row, BadRow) else row.request


def _asked(request: Request, is_shown: bool) -> Asked:
    said = next((message.content for message in reversed(request.messages) if message.role == "user"), "")
    text = cut(conversation(request.messages)) if is_shown else ""
    return Asked(request.id, text, said[-QUESTION_CHARACTERS:])


def conversation(messages: tuple[Message, ...]) -> str:
    """What was asked, as text: the one question, or every turn with its role."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in messages)


def read_line_at(run: Run, place: int) -> bytes:
    """The journal's line at a place."""
    with open(run.path / JOURNAL, "rb") as handle:
        handle.seek(place)
        return handle.readline()


def _lines(run: Run, name: str, size: int | None) -> Iterator[tuple[int, bytes]]:
    place = 0
    try:
        with open(run.path / name, "rb", buffering=1 << 20) as handle:
            for raw in handle:
                if not raw.endswith(b"\n") or (size is not None and place + len(raw) > size):
                    return
                yield place, raw
                place += len(raw)
    except OSError as problem:
        run.problems.append(f"{name} cannot be read ({problem.strerror}): what it holds is not in this report")


FILES = (OUTPUT, ERRORS)
