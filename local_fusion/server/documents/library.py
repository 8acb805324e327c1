"""The documents of requests: looks up what messages refer to, reads each file once, and places the texts.

A file is read at its first use; its text, or why it has none, is kept beside it and goes with it; the last texts are
in memory too. Inline files are read the same way and kept in memory only. Two requests never read one file at once.
What may have been the machine's fault is not kept: the next use reads again.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from local_fusion.errors import RequestError
from local_fusion.server.documents.kinds import LASTING, SENTENCES, is_html_name
from local_fusion.server.documents.place import Document, Reference, make_document, place, references
from local_fusion.server.documents.readers import MOST_READINGS, Readers
from local_fusion.server.documents.reading import CLOCK_S, MAX_BYTES, Unreadable, read_document
from local_fusion.server.ids import new_id
from local_fusion.server.stored.disk import private, stored, write_private
from local_fusion.server.stored.file_store import COMING, CONTENT, FileStore, StoredFile
from local_fusion.server.stored.upload import plain_name

BESIDE = "document.json"
REQUEST_S = 300.0
"""Seconds that all documents of one request may take to be read."""
KEPT_CHARS = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Read:
    """What became of some bytes: a document, or a key of SENTENCES."""

    document: Document | None = None
    problem: str = ""

    @property
    def lasting(self) -> bool:
        return not self.problem or self.problem in LASTING


class Library:
    """Documents over a file store; `scratch`: a private folder for inline files while they are read; `clock_s`: seconds
    a parser may take for one."""

    def __init__(self, files: FileStore, scratch: Path, clock_s: float = CLOCK_S) -> None:
        self._files = files
        self._scratch = scratch
        self._clock_s = clock_s
        self._kept: OrderedDict[str, _Read] = OrderedDict()
        self._chars = 0
        self._readers: Readers[_Read] = Readers()

    async def placed(self, owner: str, messages: Any, root: str = "messages") -> Any:
        """The raw messages of a body with every document first (see `place`). Raises RequestError, Overloaded.
        Cancelled, it stops what is read for it alone."""
        try:
            async with asyncio.timeout(REQUEST_S):
                found = {one.where: await self._one(owner, one, MOST_READINGS) for one in references(messages, root)}
        except TimeoutError:
            raise RequestError(
                f"{root}: the documents take too long to read; send fewer at once", "document_too_slow", root
            ) from None
        return place(messages, found, root)

    async def document(self, owner: str, reference: Reference) -> Document:
        """The document a part refers to, however long its key's line is. Raises RequestError: no such file, or it
        cannot be read."""
        return await self._one(owner, reference, None)

    async def _one(self, owner: str, reference: Reference, most: int | None) -> Document:
        if reference.file_id is not None:
            file = self._file(owner, reference)
            key, source = _key(file.sha256, file.filename), self._files.folder(file)
            read = await self._once(owner, key, file.filename, source, most)
            return _named(read, file.filename, reference)
        name = plain_name(reference.filename or "file")
        data, sha256 = await asyncio.to_thread(_decoded, reference)
        read = await self._once(owner, _key(sha256, name), name, data, most)
        return _named(read, name, reference)

    def placed_now(self, owner: str, messages: Any, root: str = "messages") -> Any:
        """As `placed`, for the rows of a batch: only files with an id, which `document` has read before.

        Raises RequestError."""
        found = {one.where: self._read_before(owner, one) for one in references(messages, root)}
        return place(messages, found, root)

    def _read_before(self, owner: str, reference: Reference) -> Document:
        if reference.file_id is None:
            where = reference.where
            raise RequestError(f"{where}: in a batch, upload the file and give its id", "unsupported_field", where)
        file = self._file(owner, reference)
        key = _key(file.sha256, file.filename)
        read = self._kept.get(key) or _from_disk(self._files.folder(file))
        if read is None:
            return _named(_Read(problem="unreadable"), file.filename, reference)
        self._keep(key, read)
        return _named(read, file.filename, reference)

    def _file(self, owner: str, reference: Reference) -> StoredFile:
        try:
            return self._files.get(owner, reference.file_id or "")
        except RequestError as problem:
            raise RequestError(f"{reference.where}: {problem.message}", "file_not_found", reference.where) from None

    async def _once(self, owner: str, key: str, name: str, source: Path | bytes, most: int | None) -> _Read:
        read = self._kept.get(key)
        if read is None:
            read = await self._readers.once(owner, key, lambda: self._read(owner, name, source), most)
        if read.lasting:
            self._keep(key, read)
        return read

    async def _read(self, owner: str, name: str, source: Path | bytes) -> _Read:
        with stored():
            if isinstance(source, Path):
                read = await asyncio.to_thread(_from_disk, source)
                if read is None:
                    read = await self._parse(owner, source / CONTENT, name)
                    if read.lasting:
                        await asyncio.to_thread(_to_disk, source, read)
                return read
            path = self._scratch / new_id(COMING)
            try:
                await asyncio.to_thread(_write, path, source)
                return await self._parse(owner, path, name)
            finally:
                path.unlink(missing_ok=True)

    async def _parse(self, owner: str, path: Path, name: str) -> _Read:
        async with self._readers.turn(owner):
            try:
                text = await read_document(path, name, self._clock_s)
                return _Read(await asyncio.to_thread(make_document, name, text))
            except Unreadable as problem:
                return _Read(problem=problem.key)

    def _keep(self, key: str, read: _Read) -> None:
        """Remember it as the last used; the longest unused go when it is too much."""
        before = self._kept.pop(key, None)
        self._kept[key] = read
        self._chars += _chars(read) - (0 if before is None else _chars(before))
        while self._chars > KEPT_CHARS and len(self._kept) > 1:
            self._chars -= _chars(self._kept.popitem(last=False)[1])


def _named(read: _Read, name: str, reference: Reference) -> Document:
    if read.document is None:
        where = reference.where
        raise RequestError(f"{where}: {SENTENCES[read.problem]}", f"document_{read.problem}", where)
    return replace(read.document, name=name)


def _key(sha256: str, name: str) -> str:
    """The same bytes under the same key, unless the name makes them another kind."""
    return f"{sha256}.html" if is_html_name(name) else sha256


def _chars(read: _Read) -> int:
    return 64 + (0 if read.document is None else len(read.document.text))


def _decoded(reference: Reference) -> tuple[bytes, str]:
    """The bytes of inline data, a data URL or plain base64, and their sha256. Raises RequestError."""
    text, where = reference.data or "", reference.where
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise RequestError(f"{where}: {SENTENCES['not_base64']}", "document_not_base64", where)
    if len(text) > MAX_BYTES * 4 // 3 + 4:
        raise RequestError(f"{where}: {SENTENCES['too_large']}", "document_too_large", where)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"{where}: {SENTENCES['not_base64']}", "document_not_base64", where) from None
    return data, hashlib.sha256(data).hexdigest()


def _from_disk(folder: Path) -> _Read | None:
    """What an earlier reading left beside the file; None where there was none."""
    try:
        data = orjson.loads((folder / BESIDE).read_bytes())
        if data["problem"]:
            return _Read(problem=data["problem"]) if data["problem"] in LASTING else None
        return _Read(Document("", data["text"], data["digest"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _to_disk(folder: Path, read: _Read) -> None:
    document = read.document or Document("", "", "")
    data = {"problem": read.problem, "digest": document.digest, "text": document.text}
    try:
        write_private(folder / BESIDE, orjson.dumps(data))
    except FileNotFoundError:  # deleted while it was read
        return


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb", opener=private) as handle:
        handle.write(data)
