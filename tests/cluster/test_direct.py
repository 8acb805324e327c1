"""The line over a Unix socket: private, gone with either end, and the same as Ray's for whoever speaks through it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cluster_calls import call, until

from local_fusion.cluster.carrier import Gone
from local_fusion.cluster.direct import DirectCarrier, HostLine, direct_line
from local_fusion.cluster.mailbox import Mailbox
from local_fusion.cluster.outbox import Outbox
from local_fusion.cluster.wire import Event, Submission, pack
from local_fusion.errors import CallError
from local_fusion.types import Completion, Message, Timing, Tokens


class Echo:
    """A host that answers each call at once."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.stopped: list[int] = []
        self.asked = 0

    def begin(self, submissions: Sequence[Submission]) -> None:
        for ticket, submitted in submissions:
            self.outbox.post(ticket, Completion(submitted.id, "text", "stop", Tokens(), Timing()))

    def stop(self, tickets: Sequence[int]) -> None:
        self.stopped.extend(tickets)

    async def count_tokens(self, packed: bytes) -> list[int]:
        self.asked += 1
        return [len(packed)]

    async def tokenize(self, packed: bytes) -> list[int]:
        raise CallError("m: this model has no tokenizer")

    async def detokenize(self, packed: bytes) -> str:
        raise KeyError("a secret of the prompt")

    async def count_running(self) -> int:
        await asyncio.Event().wait()
        return 0


@asynccontextmanager
async def lined(folder: Path | None) -> AsyncIterator[tuple[Echo, DirectCarrier]]:
    host = Echo()
    line = HostLine(host, "m", host.outbox)
    carrier = await direct_line(line.listen, folder)
    assert carrier is not None
    yield host, carrier
    carrier.close()


async def test_calls_events_aborts_and_questions_share_the_line(tmp_path: Path):
    async with lined(tmp_path) as (host, carrier):
        received = carrier.receive()
        await carrier.submit([(1, call("a")), (2, call("b"))])
        assert [(ticket, payload.call_id) for ticket, payload in await anext(received)] == [(1, "a"), (2, "b")]
        await carrier.abort([7])
        question = asyncio.create_task(carrier.ask("count_tokens", pack([[Message("user", "x")]])))
        rest = asyncio.create_task(anext(received))
        assert await question == [len(pack([[Message("user", "x")]]))]
        assert host.stopped == [7]
        with pytest.raises(CallError, match="no tokenizer"):
            await carrier.ask("tokenize", b"")
        with pytest.raises(CallError, match=r"^m: detokenize failed with KeyError$"):
            await carrier.ask("detokenize", b"")
        rest.cancel()


@pytest.mark.parametrize("given", [True, False])
async def test_the_sockets_name_is_private_and_gone_once_taken(given: bool, tmp_path: Path):
    host = Echo()
    path = Path(await HostLine(host, "m", host.outbox).listen(str(tmp_path) if given else None))
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert given or stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700
    carrier = await DirectCarrier.connect(str(path))
    await until(lambda: not path.exists())
    assert path.parent.exists() == given
    with pytest.raises(FileNotFoundError):
        await DirectCarrier.connect(str(path))
    carrier.close()


async def test_a_host_that_goes_away_ends_the_line_and_what_was_asked(tmp_path: Path):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "line"))
    carrier = await DirectCarrier.connect(str(tmp_path / "line"))
    received = asyncio.create_task(anext(carrier.receive()))
    with pytest.raises(Gone, match="its process died"):
        await asyncio.wait_for(carrier.ask("count_running"), 10)
    with pytest.raises(Gone):
        await received
    with pytest.raises(Gone):
        await carrier.submit([(1, call("late"))])
    await carrier.abort([1])
    server.close()


async def test_where_the_two_see_different_files_there_is_no_direct_line(tmp_path: Path):
    async def listen(_: str | None) -> str:
        return str(tmp_path / "in another container")

    assert await direct_line(listen, tmp_path) is None


async def test_a_question_that_was_given_up_leaves_the_line_in_order(tmp_path: Path):
    async with lined(tmp_path) as (_, carrier):
        received = asyncio.create_task(anext(carrier.receive()))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(carrier.ask("count_running"), 0.05)
        assert await carrier.ask("count_tokens", b"1234") == [4]
        received.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await received


async def test_a_group_that_cannot_be_sent_ends_each_of_its_calls():
    class Broken:
        async def submit(self, group: Sequence[Submission]) -> None:
            raise TypeError("a secret of the prompt")

        async def abort(self, tickets: Sequence[int]) -> None:
            return None

        async def receive(self) -> AsyncIterator[list[Event]]:
            await asyncio.Event().wait()
            yield []

        async def ask(self, question: str, *packed: bytes) -> None:
            return None

        def close(self) -> None:
            return None

    mailbox = Mailbox(Broken(), "m", lambda reason: None)
    ended = await asyncio.gather(*(mailbox.ask(call(f"c{n}")) for n in range(3)), return_exceptions=True)
    assert [str(problem) for problem in ended] == ["m: could not be sent: TypeError"] * 3
    mailbox.close("over")


async def test_a_line_that_fails_in_an_unforeseen_way_gives_the_host_up():
    class Garbled:
        async def receive(self) -> AsyncIterator[list[Event]]:
            raise EOFError
            yield []

        def close(self) -> None:
            return None

    told: list[str] = []
    mailbox = Mailbox(Garbled(), "m", told.append)  # type: ignore[arg-type]
    mailbox.open()
    await until(lambda: bool(told))
    assert told == ["its line failed with EOFError"]
    mailbox.close("over")


async def test_an_event_that_cannot_be_sent_ends_the_line(tmp_path: Path):
    async with lined(tmp_path) as (host, carrier):
        received = asyncio.create_task(anext(carrier.receive()))
        host.outbox.post(1, lambda: None)  # type: ignore[arg-type]
        with pytest.raises(Gone):
            await asyncio.wait_for(received, 5)


async def test_where_no_socket_can_be_made_there_is_no_direct_line(tmp_path: Path):
    host, deep = Echo(), tmp_path / ("x" * 120)
    deep.mkdir()
    assert await direct_line(HostLine(host, "m", host.outbox).listen, deep) is None


async def test_a_folder_that_no_socket_fits_in_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    host = Echo()
    assert await direct_line(HostLine(host, "m", host.outbox).listen, None) is None
    assert list(deep.iterdir()) == []
