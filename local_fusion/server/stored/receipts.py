"""Receipts of the server's answers, kept some days, and what users say of them: for calibration.

Two kinds of files of JSON lines, both private, both appended to and never changed but by the sweep:

`receipts/YYYY-MM-DD.jsonl` (UTC), one line per answer:
    id        the answer's id, as the client got it (`chatcmpl-…`, `resp_…`)
    key       name of the key that asked
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
"""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from local_fusion.batch.records import dump
from local_fusion.errors import RequestError
from local_fusion.openai_api.feedback import Feedback
from local_fusion.openai_api.reply import fusion_receipt
from local_fusion.server.stored.disk import private, stored
from local_fusion.server.watch.logs import log
from local_fusion.types import Fused, Message

MAX_LINE_BYTES = 1 << 20


class Receipts:
    """Receipts in `folder` for `days` (0: none is kept), feedback in the file `feedback`."""

    def __init__(self, folder: Path, feedback: Path, days: float, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._feedback = feedback
        self._days = days
        self._clock = clock
        self._lock = asyncio.Lock()

    def keep(self, answer_id: str, key: str, messages: tuple[Message, ...], fused: Fused) -> None:
        """Append the receipt of an answer. A full disk loses receipts, never an answer: it is logged."""
        if not self._days:
            return
        now = self._clock()
        line: dict[str, Any] = {
            "id": answer_id,
            "key": key,
            "at": int(now),
            "messages": [_turn(message) for message in messages],
            "text": fused.text,
            "receipt": fusion_receipt(fused),
        }
        try:
            data = _dump(line)
            if len(data) > MAX_LINE_BYTES:
                data = _dump(line | {"messages": [], "cut": True})
            day = datetime.fromtimestamp(now, UTC).date().isoformat()
            _append(self._folder / f"{day}.jsonl", data)
            _append(self._folder / f"{day}.ids", f"{answer_id} {key}\n".encode())
        except OSError as problem:
            log.failed("receipt_not_kept", problem)

    async def rate(self, key: str, feedback: Feedback) -> None:
        """Append what a user says. Raises RequestError (not_found) for an id that is none of this key's answers."""
        if not await asyncio.to_thread(self._owns, key, feedback.id):
            why = "no receipts are kept on this server" if not self._days else "no answer of that id is on record"
            raise RequestError(f"{why}; feedback is taken for answers whose receipt is kept", "not_found", "id")
        line: dict[str, Any] = {"id": feedback.id, "key": key, "at": int(self._clock()), "rating": feedback.rating}
        line |= {name: text for name in ("answer", "comment") if (text := getattr(feedback, name)) is not None}
        async with self._lock:
            with stored():
                await asyncio.to_thread(_append, self._feedback, _dump(line))

    async def sweep(self) -> None:
        """Remove days that are over their time, and feedback as old as that."""
        oldest = datetime.fromtimestamp(self._clock(), UTC) - timedelta(days=self._days)
        with stored():
            for path in sorted(self._folder.iterdir()):
                if path.stem < oldest.date().isoformat():
                    path.unlink(missing_ok=True)
            async with self._lock:
                await asyncio.to_thread(self._sweep_feedback, oldest.timestamp())

    def _owns(self, key: str, answer_id: str) -> bool:
        wanted = f"{answer_id} {key}\n".encode("utf-8", "surrogatepass")
        return any(_holds(path, wanted) for path in sorted(self._folder.glob("*.ids"), reverse=True))

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


def _holds(path: Path, wanted: bytes) -> bool:
    """Whether one of the file's lines is `wanted`."""
    with open(path, "rb") as handle:
        if not os.fstat(handle.fileno()).st_size:
            return False
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            place = data.find(wanted)
            while place > 0 and data[place - 1 : place] != b"\n":
                place = data.find(wanted, place + 1)
            return place >= 0


def _append(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, data)
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
