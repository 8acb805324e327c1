"""Receipts of the server's answers, kept some days, and what users say of them: for calibration.

Two kinds of files of JSON lines, both private, both appended to; the sweep shortens them, and what is deleted becomes
a line of spaces:

`receipts/YYYY-MM-DD.jsonl` (UTC), one line per answer of a fusion:
    id        the answer's id, as the client got it (`chatcmpl-…`, `resp_…`)
    key       name of the key that asked, `#`, the beginning of its hash
    at        Unix seconds
    messages  the conversation, `{role, content, …}` each; empty where it was over a megabyte (then `cut` is true)
    text      the final answer
    receipt   as under the key `fusion` of a chat completion: mode, responses of the members, choice, verdict, calls, …

`feedback.jsonl`, one line per word of a user; for one id the last line holds:
    id, key, at   as above
    rating        "up" or "down"
    answer        the right answer, where the user gave it
    comment       where the user gave one

Beside each day lies `YYYY-MM-DD.ids`, a line `id key` per answer, so that an id is found without reading receipts.
Answers of members, those that shall not be stored, and those of a key that has had its day's ration have that line
alone.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from local_fusion.batch.records import dump
from local_fusion.errors import RequestError
from local_fusion.openai_api.feedback import Feedback
from local_fusion.openai_api.reply import fusion_receipt
from local_fusion.server.door.callers import names_of
from local_fusion.server.problems import Overloaded
from local_fusion.server.stored.disk import private, stored
from local_fusion.server.stored.rations import Rations
from local_fusion.server.watch.logs import log
from local_fusion.types import Fused, Message

MAX_LINE_BYTES = 1 << 20
RECEIPT_BYTES_A_DAY, FEEDBACK_BYTES_A_DAY = 256 << 20, 4 << 20
"""Of each key; what is over is not kept."""
_HOUR_S = 3600


class Receipts:
    """Receipts in `folder` for `days` (0: none is kept), feedback in the file `feedback`. `rations`: bytes of receipts
    and of feedback that each key may add in a day."""

    def __init__(
        self,
        folder: Path,
        feedback: Path,
        days: float,
        clock: Callable[[], float] = time.time,
        rations: tuple[int, int] = (RECEIPT_BYTES_A_DAY, FEEDBACK_BYTES_A_DAY),
    ) -> None:
        self._folder = folder
        self._feedback = feedback
        self._days = days
        self._clock = clock
        self._lock = asyncio.Lock()
        self._receipt_ration, self._feedback_ration = map(Rations, rations)

    def keep(self, answer_id: str, key: str, messages: tuple[Message, ...], fused: Fused | None) -> None:
        """Append the receipt of an answer; None: its id alone, so that it can be rated. A full disk loses receipts,
        never an answer: it is logged."""
        if not self._days:
            return
        now = self._clock()
        day = self._day()
        try:
            data = b"" if fused is None else _line(answer_id, key, now, messages, fused)
            if data and self._receipt_ration.grant(key, day, len(data)):
                _append(self._folder / f"{day}.jsonl", data)
            _append(self._folder / f"{day}.ids", f"{answer_id} {key}\n".encode())
        except OSError as problem:
            log.failed("receipt_not_kept", problem)

    async def forget(self, key: str, answer_id: str) -> None:
        """Overwrite the receipt of this key's answer, wherever it lies; none is fine. Raises StorageProblem."""
        with stored():
            await asyncio.to_thread(self._forget, key, answer_id)

    def _forget(self, key: str, answer_id: str) -> None:
        quoted = orjson.dumps(answer_id)
        receipts = (b'{"id":' + quoted + b",", b'{"id": ' + quoted + b",")
        for path in self._folder.glob("*.ids"):
            if _blank(path, _wanted(key, answer_id)):
                _blank(path.with_suffix(".jsonl"), receipts)

    async def rate(self, key: str, feedback: Feedback) -> None:
        """Append what a user says. Raises RequestError (not_found) for an id that is none of this key's answers,
        Overloaded where the key has said too much today."""
        if not await asyncio.to_thread(self._owns, key, feedback.id):
            why = "no receipts are kept on this server" if not self._days else "no answer of that id is on record"
            raise RequestError(f"{why}; feedback is taken for answers whose receipt is kept", "not_found", "id")
        line: dict[str, Any] = {"id": feedback.id, "key": key, "at": int(self._clock()), "rating": feedback.rating}
        line |= {name: text for name in ("answer", "comment") if (text := getattr(feedback, name)) is not None}
        data = _dump(line)
        if not self._feedback_ration.grant(key, self._day(), len(data)):
            raise Overloaded("this key has given as much feedback as it may in a day; try again tomorrow", _HOUR_S)
        async with self._lock:
            with stored():
                await asyncio.to_thread(_append, self._feedback, data)

    async def sweep(self) -> None:
        """Remove days that are over their time, and feedback as old as that."""
        oldest = datetime.fromtimestamp(self._clock(), UTC) - timedelta(days=self._days)
        with stored():
            for path in sorted(self._folder.iterdir()):
                if path.stem < oldest.date().isoformat():
                    path.unlink(missing_ok=True)
            async with self._lock:
                await asyncio.to_thread(self._sweep_feedback, oldest.timestamp())

    def _day(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).date().isoformat()

    def _owns(self, key: str, answer_id: str) -> bool:
        paths = sorted(self._folder.glob("*.ids"), reverse=True)
        return any(_holds(path, wanted) for path in paths for wanted in _wanted(key, answer_id))

    def _sweep_feedback(self, oldest: float) -> None:
        if not self._feedback.exists():
            return
        fresh = self._feedback.with_name(self._feedback.name + ".new")
        dropped = False
        with open(self._feedback, "rb") as lines, open(fresh, "wb", opener=private) as out:
            for line in lines:
                if _time_of(line) >= oldest:
                    out.write(line)
                else:
                    dropped = True
        if dropped:
            os.replace(fresh, self._feedback)
        else:
            fresh.unlink()


def read_feedback(path: Path) -> dict[str, dict[str, Any]]:
    """The last word on each answer, by id; lines that are torn or none of ours are skipped."""
    found: dict[str, dict[str, Any]] = {}
    for line in _lines(path):
        if isinstance(line.get("id"), str) and line.get("rating") in ("up", "down"):
            found[line["id"]] = line
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as handle:
        for raw in handle:
            try:
                line = orjson.loads(raw)
            except orjson.JSONDecodeError:
                continue
            if isinstance(line, dict):
                yield line


def _line(answer_id: str, key: str, at: float, messages: tuple[Message, ...], fused: Fused) -> bytes:
    line: dict[str, Any] = {
        "id": answer_id,
        "key": key,
        "at": int(at),
        "messages": [_turn(message) for message in messages],
        "text": fused.text,
        "receipt": fusion_receipt(fused),
    }
    data = _dump(line)
    return data if len(data) <= MAX_LINE_BYTES else _dump(line | {"messages": [], "cut": True})


def _wanted(key: str, answer_id: str) -> list[bytes]:
    """Lines of which one says that an answer is this key's."""
    return [f"{answer_id} {name}\n".encode("utf-8", "surrogatepass") for name in names_of(key)]


def _holds(path: Path, wanted: bytes) -> bool:
    """Whether one of the file's lines begins with `wanted`."""
    with open(path, "rb") as handle:
        if not os.fstat(handle.fileno()).st_size:
            return False
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _find(data, wanted) >= 0


def _blank(path: Path, beginnings: Sequence[bytes]) -> bool:
    """Put spaces over every line that begins in one of these ways, on the disk when this returns; False where there is
    none. What is appended meanwhile is left alone."""
    if not path.exists() or not path.stat().st_size:
        return False
    found = False
    with open(path, "r+b") as handle, mmap.mmap(handle.fileno(), 0) as data:
        for beginning in beginnings:
            while (place := _find(data, beginning)) >= 0:
                end = data.find(b"\n", place)
                end = len(data) if end < 0 else end  # torn by a crash
                data[place:end] = b" " * (end - place)
                found = True
        data.flush()
    return found


def _find(data: mmap.mmap, beginning: bytes) -> int:
    """Where a line begins so; -1 where none does."""
    place = data.find(beginning)
    while place > 0 and data[place - 1 : place] != b"\n":
        place = data.find(beginning, place + 1)
    return place


def _append(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        before = os.fstat(handle).st_size
        if os.write(handle, data) < len(data):
            os.ftruncate(handle, before)  # the next line must not begin within this one
            raise OSError(errno.ENOSPC, "no space left")
    finally:
        os.close(handle)


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _time_of(line: bytes) -> float:
    try:
        return float(orjson.loads(line)["at"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return 0.0


def _dump(line: dict[str, Any]) -> bytes:
    return dump(line) + b"\n"
