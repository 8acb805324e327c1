"""Bytes to text: UTF-8 here, PDF and HTML by a child process with limits, since both may be made to do harm."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import orjson

from local_fusion.server.documents.kinds import SENTENCES, kind_of

MAX_BYTES = 64 * 1024 * 1024
MAX_CHARS = 4 * 1024 * 1024
CLOCK_S = 120.0
_PROGRAM = "local_fusion.server.documents.parser"
_HEAD_BYTES = 4096


class Unreadable(Exception):
    """The file gives no text; `key` of SENTENCES says why."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


async def read_document(path: Path, name: str, clock_s: float = CLOCK_S) -> str:
    """The text of the file at `path`. `clock_s`: seconds a parser may take. Raises Unreadable."""
    kind = kind_of(name, await asyncio.to_thread(_head, path))
    text = await asyncio.to_thread(_utf8, path) if kind == "text" else await _parsed(path, kind, clock_s)
    if not text.strip():
        raise Unreadable("empty")
    if len(text) > MAX_CHARS:
        raise Unreadable("too_large")
    return text


def _head(path: Path) -> bytes:
    """The first bytes. Raises Unreadable where the whole is too large to be read."""
    if path.stat().st_size > MAX_BYTES:
        raise Unreadable("too_large")
    with open(path, "rb") as handle:
        return handle.read(_HEAD_BYTES)


def _utf8(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("not_utf8") from None
    if "\0" in text:
        raise Unreadable("not_utf8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


async def _parsed(path: Path, kind: str, clock_s: float) -> str:
    """Ask the child. Whatever it does but answer in time counts as unreadable."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        _PROGRAM,
        str(path),
        kind,
        str(MAX_CHARS),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(clock_s):
            said, _ = await child.communicate()
    except TimeoutError:
        raise Unreadable("too_slow") from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    # Not by its return code: where Ray runs, that is lost at times. A child killed by its limits says nothing whole.
    try:
        answer = orjson.loads(said)
        text, problem = answer.get("text"), answer.get("problem")
    except (orjson.JSONDecodeError, AttributeError):
        raise Unreadable("too_slow") from None
    if not isinstance(text, str):
        raise Unreadable(problem if problem in SENTENCES else "unreadable")
    return text
