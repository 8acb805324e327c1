"""Stored responses: one private SQLite file, written and read by one thread of its own.

Invariants: what `put` or `update` has returned from outlives this process, however it dies (a power cut may take the
last ones: a sync for each would cost more than a small model's answer); a response belongs to the key that made it and
is nowhere to be seen for others; what is deleted or too old is overwritten. Times in Unix seconds.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from local_fusion.errors import RequestError
from local_fusion.server.door.callers import names_of
from local_fusion.server.stored.disk import StorageProblem

T = TypeVar("T")
VERSION = 2
SWEEP_EVERY_S = 600.0
MAX_TURNS = 1000
MAX_CONVERSATION_BYTES, MAX_CONVERSATION_ITEMS = 16 << 20, 16_384
"""Of what `previous_response_id` stands for."""
_OPEN = ("queued", "in_progress")
_TABLES = """
CREATE TABLE responses (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL, status TEXT NOT NULL,
    background INTEGER NOT NULL, attempts INTEGER NOT NULL, previous TEXT, request BLOB NOT NULL, items BLOB NOT NULL,
    body BLOB NOT NULL, events BLOB, drained INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX responses_expires ON responses (expires);
CREATE INDEX responses_open ON responses (status) WHERE background = 1;
"""
_FROM_1 = "ALTER TABLE responses ADD COLUMN drained INTEGER NOT NULL DEFAULT 0;"
_FORGET = "PRAGMA wal_checkpoint(TRUNCATE)"  # the journal of changes still holds what was deleted
_INSERT = (
    "INSERT INTO responses (id, owner, created, status, background, attempts, previous, request, items, body, expires) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SELECT = (
    "SELECT id, owner, created, status, background, attempts, previous, request, items, body, drained FROM responses "
)
_SELECT_ONE = f"{_SELECT} WHERE id = ? AND owner IN (?, ?) AND expires > ?"
_SELECT_LINK = (
    "SELECT status, previous, length(items) + length(body) FROM responses WHERE id = ? AND owner IN (?, ?) "
    "AND expires > ?"
)
_SELECT_OPEN = f"{_SELECT} WHERE background = 1 AND status IN (?, ?) ORDER BY created"


@dataclass(frozen=True, slots=True)
class Stored:
    """One response. `request`: what is needed to run it again; `items`: its input; `body`: the response object.
    `attempts`: how often a run of it was begun; `drained`: how many of them an orderly end of the server cut off."""

    id: str
    owner: str
    created: float
    status: str
    background: bool
    attempts: int
    previous: str | None
    request: Mapping[str, Any]
    items: tuple[Mapping[str, Any], ...]
    body: Mapping[str, Any]
    drained: int = 0

    @property
    def open(self) -> bool:
        """Its run has not ended."""
        return self.background and self.status in _OPEN


class ResponseStore:
    """The file at `path`, opened at first use. `keep_s`: how long a response is kept; `max_bytes`: of all, at most;
    beyond it the oldest ones go."""

    def __init__(self, path: Path, keep_s: float, max_bytes: int) -> None:
        self._path = path
        self._keep_s = keep_s
        self._max_bytes = max_bytes
        self._thread = ThreadPoolExecutor(1, "responses")
        self._file: sqlite3.Connection | None = None
        self._swept = 0.0

    async def put(self, response: Stored) -> None:
        """Keep a new response. Raises StorageProblem, as all others do."""
        await self._do(lambda file: self._put(file, response))

    async def update(
        self, response_id: str, status: str, body: Mapping[str, Any], events: Sequence[bytes] | None = None
    ) -> bool:
        """Replace status and body, and the events where given; False where it was deleted meanwhile."""

        def work(file: sqlite3.Connection) -> bool:
            packed = None if events is None else zlib.compress(b"\n".join(events), 1)
            done = file.execute(
                "UPDATE responses SET status = ?, body = ?, events = coalesce(?, events) WHERE id = ?",
                (status, orjson.dumps(body), packed, response_id),
            )
            return done.rowcount > 0

        return await self._do(work)

    async def begin(self, response_id: str) -> None:
        """One more run of it begins."""
        await self._do(
            lambda file: file.execute("UPDATE responses SET attempts = attempts + 1 WHERE id = ?", (response_id,))
        )

    async def drain(self, response_id: str) -> None:
        """The run begun last is cut off by the server's orderly end: it shall be run again as if it never had been."""
        await self._do(
            lambda file: file.execute("UPDATE responses SET drained = drained + 1 WHERE id = ?", (response_id,))
        )

    async def get(self, owner: str, response_id: str) -> Stored:
        """Raises RequestError (404) where this owner has none of that id."""
        found = await self._do(lambda file: _one(file, owner, response_id))
        if found is None:
            raise no_such(response_id)
        return found

    async def events(self, owner: str, response_id: str) -> list[bytes] | None:
        """The events of a background run that has ended, a JSON object each; None where none were kept."""

        def work(file: sqlite3.Connection) -> list[bytes] | None:
            row = file.execute(
                "SELECT events FROM responses WHERE id = ? AND owner IN (?, ?) AND expires > ?",
                (response_id, *names_of(owner), time.time()),
            ).fetchone()
            return None if row is None or row[0] is None else zlib.decompress(row[0]).split(b"\n")

        return await self._do(work)

    async def conversation(self, owner: str, response_id: str) -> list[Mapping[str, Any]]:
        """Input and output items of this response and all before it, oldest first. Raises RequestError naming
        previous_response_id: one is missing, or has no answer (yet), or they are too much together."""
        return await self._do(lambda file: _conversation(file, owner, response_id))

    async def delete(self, owner: str, response_id: str) -> None:
        """Raises RequestError (404)."""

        def work(file: sqlite3.Connection) -> int:
            found = (response_id, *names_of(owner))
            return file.execute("DELETE FROM responses WHERE id = ? AND owner IN (?, ?)", found).rowcount

        if not await self._do(work):
            raise no_such(response_id)
        await self._do(lambda file: file.execute(_FORGET).fetchall())

    async def interrupted(self) -> list[Stored]:
        """Background runs that had not ended when the server last did."""

        def work(file: sqlite3.Connection) -> list[Stored]:
            rows = file.execute(_SELECT_OPEN, _OPEN)
            return [_stored(row) for row in rows]

        return await self._do(work)

    async def sweep(self) -> None:
        """Away with what is too old or too much, whether or not anything comes in."""
        await self._do(self._sweep)

    async def close(self) -> None:
        """Close the file; idempotent. What comes later opens it again."""

        def work() -> None:
            if self._file is not None:
                self._file.close()
                self._file = None

        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._file is None:
                self._file = _opened(self._path)
            return work(self._file)
        except (sqlite3.Error, OSError) as problem:
            raise StorageProblem("the server cannot keep or read responses now; ask its operator", 60) from problem

    def _put(self, file: sqlite3.Connection, response: Stored) -> None:
        file.execute(
            _INSERT,
            (
                response.id,
                response.owner,
                response.created,
                response.status,
                response.background,
                response.attempts,
                response.previous,
                orjson.dumps(response.request),
                orjson.dumps(response.items),
                orjson.dumps(response.body),
                response.created + self._keep_s,
            ),
        )
        if response.created - self._swept > SWEEP_EVERY_S:
            self._swept = response.created
            self._sweep(file)

    def _sweep(self, file: sqlite3.Connection) -> None:
        """Away with what is too old, and with the oldest of too much; runs under way stay."""
        gone = file.execute("DELETE FROM responses WHERE expires <= ?", (time.time(),)).rowcount
        while _bytes(file) > self._max_bytes:
            oldest = file.execute(
                "DELETE FROM responses WHERE id IN (SELECT id FROM responses WHERE NOT (background = 1 AND status IN "
                "(?, ?)) ORDER BY created LIMIT 10)",
                _OPEN,
            ).rowcount
            if not oldest:
                break
            gone += oldest
        if gone:
            file.execute(_FORGET).fetchall()


def no_such(response_id: str) -> RequestError:
    """The 404 of a response that is not there for this key."""
    return RequestError(
        f"there is no response {response_id[:64]!r}; it was deleted, has expired, or never was stored", "not_found"
    )


def _opened(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    file.execute("PRAGMA auto_vacuum = FULL")
    file.execute("PRAGMA journal_mode = WAL")
    file.execute("PRAGMA synchronous = NORMAL")
    file.execute("PRAGMA secure_delete = ON")
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if version == 0:
        file.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    elif version == 1:
        file.executescript(f"BEGIN; {_FROM_1} PRAGMA user_version = {VERSION}; COMMIT;")
    elif version != VERSION:
        file.close()
        raise sqlite3.DatabaseError(f"version {version} of the table is not known")
    return file


def _bytes(file: sqlite3.Connection) -> int:
    (pages,), (free,), (size,) = (
        file.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _one(file: sqlite3.Connection, owner: str, response_id: str) -> Stored | None:
    row = file.execute(_SELECT_ONE, (response_id, *names_of(owner), time.time())).fetchone()
    return None if row is None else _stored(row)


def _conversation(file: sqlite3.Connection, owner: str, response_id: str) -> list[Mapping[str, Any]]:
    items: list[Mapping[str, Any]] = []
    for turn_id in reversed(_chain(file, owner, response_id)):
        turn = _one(file, owner, turn_id)
        if turn is not None:
            items += [*turn.items, *turn.body["output"]]
        if len(items) > MAX_CONVERSATION_ITEMS:
            raise _too_long(f"{MAX_CONVERSATION_ITEMS} items")
    return items


def _chain(file: sqlite3.Connection, owner: str, response_id: str) -> list[str]:
    """The ids of a conversation, the newest first; nothing is decoded before it is known to be small enough."""
    turns: list[str] = []
    size = 0
    before: str | None = response_id
    while before is not None:
        row = file.execute(_SELECT_LINK, (before, *names_of(owner), time.time())).fetchone()
        if row is None:
            raise RequestError(
                f"previous_response_id: there is no response {before[:64]!r} any more; send the conversation as input",
                "previous_response_not_found",
                "previous_response_id",
            )
        status, earlier, size_bytes = row
        if status not in ("completed", "incomplete"):
            raise RequestError(
                f"previous_response_id: the response is {status}; it must be completed",
                "invalid_field",
                "previous_response_id",
            )
        turns.append(before)
        size += size_bytes
        if len(turns) > MAX_TURNS:
            raise _too_long(f"{MAX_TURNS} turns")
        if size > MAX_CONVERSATION_BYTES:
            raise _too_long(f"{MAX_CONVERSATION_BYTES} bytes")
        before = earlier
    return turns


def _too_long(most: str) -> RequestError:
    return RequestError(
        f"previous_response_id: the conversation has more than {most}; begin a new one",
        "invalid_field",
        "previous_response_id",
    )


def _stored(row: Sequence[Any]) -> Stored:
    response_id, owner, created, status, background, attempts, previous, request, items, body, drained = row
    return Stored(
        response_id,
        owner,
        created,
        status,
        bool(background),
        attempts,
        previous,
        orjson.loads(request),
        tuple(orjson.loads(items)),
        orjson.loads(body),
        drained,
    )
