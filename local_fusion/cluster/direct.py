"""A line between the driver and a host on the same node: one Unix socket, no Ray in between.

A message through Ray takes some milliseconds each way, here it takes a tenth of one. Invariant: the socket lies in a
folder only this user can enter, takes one connection, and its name is gone once that is made. When the host's process
ends, so does the line; the driver needs no other sign.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from struct import Struct
from typing import Any, Literal, Protocol, TypeAlias

from local_fusion.cluster.carrier import DIED, Gone, Question
from local_fusion.cluster.outbox import Outbox
from local_fusion.cluster.wire import Event, Submission, pack, unpack
from local_fusion.errors import CallError

_LENGTH = Struct("<I")
_LARGEST = 2**32 - 1
_Kind: TypeAlias = Literal["submit", "abort", "ask", "events", "said", "failed"]
_QUESTIONS = frozenset(Question.__args__)  # type: ignore[attr-defined]


class Answering(Protocol):
    """What a host does for its driver, whichever way it is spoken to."""

    def begin(self, submissions: Sequence[Submission]) -> None:
        """Start these calls."""

    def stop(self, tickets: Sequence[int]) -> None:
        """Stop these calls."""


class HostLine:
    """The host's end."""

    def __init__(self, host: Answering, name: str, outbox: Outbox) -> None:
        self._host = host
        self._name = name
        self._outbox = outbox
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._own_folder: Path | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, folder: str | None) -> str | None:
        """Wait for the driver; the socket's path. `folder` must be private; without one, a new one is made. None where
        no socket can be made there, for one because the path is too long."""
        try:
            if folder is None:
                self._own_folder = Path(tempfile.mkdtemp(prefix="lf-"))
            self._path = (self._own_folder or Path(folder or "")) / f"line-{os.getpid()}"
            self._server = await asyncio.start_unix_server(self._serve, str(self._path))
        except OSError:
            self._take_name_away()
            return None
        return str(self._path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._take_name_away()
        sending = asyncio.create_task(self._send(writer))
        try:
            while True:
                self._heed(await _read(reader), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the driver let go; it ends this process, or Ray does
        finally:
            sending.cancel()
            writer.close()

    def _take_name_away(self) -> None:
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(OSError):
            if self._path is not None:
                self._path.unlink(missing_ok=True)
            if self._own_folder is not None:
                self._own_folder.rmdir()

    def _heed(self, frame: Any, writer: asyncio.StreamWriter) -> None:
        match frame:
            case ("submit", submissions):
                self._host.begin(submissions)
            case ("abort", tickets):
                self._host.stop(tickets)
            case ("ask", (number, question, packed)) if question in _QUESTIONS:
                task = asyncio.create_task(self._answer(number, question, packed, writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, number: int, question: Question, packed: Sequence[bytes], writer: asyncio.StreamWriter
    ) -> None:
        try:
            _write(writer, "said", (number, await getattr(self._host, question)(*packed)))
        except CallError as problem:
            _write(writer, "failed", (number, problem))
        except Exception as problem:
            # The type only: an unexpected error's text may hold a part of the prompt.
            _write(
                writer, "failed", (number, CallError(f"{self._name}: {question} failed with {type(problem).__name__}"))
            )

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        seen = 0
        try:
            while True:
                seen, events = await self._outbox.take(seen)
                _write(writer, "events", events)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()  # however it ends: a driver that hears nothing more must not wait on an open line


class DirectCarrier:
    """The driver's end; a `Carrier`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._over = False

    @classmethod
    async def connect(cls, path: str) -> DirectCarrier:
        """To a host that listens at `path`. Raises OSError."""
        return cls(*await asyncio.open_unix_connection(path))

    async def submit(self, group: Sequence[Submission]) -> None:
        """See `Carrier.submit`. Does not wait for the host: what is under way is bounded by its places."""
        self._write("submit", group)

    async def abort(self, tickets: Sequence[int]) -> None:
        """See `Carrier.abort`."""
        with contextlib.suppress(Gone):
            self._write("abort", tickets)

    async def receive(self) -> AsyncGenerator[list[Event], None]:
        """See `Carrier.receive`."""
        try:
            while True:
                kind, content = await _read(self._reader)
                if kind == "events":
                    yield content
                else:
                    self._settle(kind, *content)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Gone(DIED) from None
        finally:
            self.close()

    async def ask(self, question: Question, *packed: bytes) -> Any:
        """See `Carrier.ask`."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._write("ask", (number, question, packed))
            return await answer
        finally:
            self._asked.pop(number, None)

    def close(self) -> None:
        """See `Carrier.close`."""
        self._over = True
        self._writer.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Gone(DIED))

    def _write(self, kind: _Kind, content: Any) -> None:
        if self._over or self._writer.is_closing():
            raise Gone(DIED)
        _write(self._writer, kind, content)

    def _settle(self, kind: _Kind, number: int, content: Any) -> None:
        answer = self._asked.get(number)
        if answer is None or answer.done():
            return
        if kind == "said":
            answer.set_result(content)
        else:
            answer.set_exception(content)


Listen: TypeAlias = Callable[[str | None], Awaitable[str | None]]


async def direct_line(listen: Listen, folder: Path | None) -> DirectCarrier | None:
    """A line to a host on this node; None where it can make no socket, or the two do not see the same files, as in a
    container."""
    path = await listen(None if folder is None else str(folder))
    if path is None:
        return None
    try:
        return await DirectCarrier.connect(path)
    except OSError:
        return None


async def _read(reader: asyncio.StreamReader) -> Any:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return unpack(await reader.readexactly(length))


def _write(writer: asyncio.StreamWriter, kind: _Kind, content: Any) -> None:
    packed = pack((kind, content))
    if len(packed) > _LARGEST:
        raise CallError("a group of calls is larger than 4 GiB; send shorter prompts")
    writer.writelines((_LENGTH.pack(len(packed)), packed))
