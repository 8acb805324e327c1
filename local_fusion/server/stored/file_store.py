"""Files that clients uploaded and batches made: a folder each, with the bytes and what is known of them beside.

Invariants: a file is there whole or not at all (its folder is renamed into place when everything is on the disk); it
is seen only by the key that made it; the sum of all bytes stays within the limits, uploads under way included, and what
was deleted while a batch reads it; but what batches put out is never refused. Survives a restart: the folders are all
there is.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from local_fusion.errors import RequestError
from local_fusion.openai_api.file_objects import Listing
from local_fusion.server.door.callers import owns
from local_fusion.server.ids import new_id
from local_fusion.server.stored.disk import private, remove_folder, stored, sync_folder, write_private
from local_fusion.server.stored.paging import cut_page
from local_fusion.server.stored.room import Room

CONTENT, COMING = "content", ".coming-"
_META, _GONE = "meta.json", ".gone-"
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file. `made_ns`: Unix time in nanoseconds, which also orders lists; `expires_at`: Unix seconds or
    None."""

    id: str
    owner: str
    filename: str
    purpose: str
    size_bytes: int
    sha256: str
    made_ns: int
    expires_at: int | None = None

    @property
    def created_at(self) -> int:
        return self.made_ns // _SECOND_NS


@dataclass(frozen=True, slots=True)
class FileLimits:
    """`per_file`, `total`, `per_key` in bytes; `count` of files per key; `batch_s`: seconds files of batches live by
    default."""

    per_file: int
    total: int
    count: int
    batch_s: float
    per_key: int | None = None


class Incoming:
    """A file on its way in. `write` as bytes come; then `FileStore.keep`, or `FileStore.drop`."""

    def __init__(self, store: FileStore, folder: Path, owner: str) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.owner = owner
        self.size_bytes = 0
        self._store = store
        self._digest = hashlib.sha256()
        self._handle = open(folder / CONTENT, "wb", opener=private)  # noqa: SIM115

    async def write(self, data: bytes) -> None:
        """Append. Raises RequestError where a limit is passed, StorageProblem where the disk fails."""
        self._store.reserve(self, len(data))
        self.size_bytes += len(data)
        with stored():
            await asyncio.to_thread(self._write, data)

    def seal(self) -> str:
        """Close the bytes, on the disk; returns their sha256."""
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._handle.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        self._handle.close()

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._handle.write(data)


class FileStore:
    """All files of the server, known in memory by their meta data."""

    def __init__(self, folder: Path, limits: FileLimits, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Read what is there; leftovers of a killed server are removed."""
        self._folder = folder
        self._limits = limits
        self._clock_ns = clock_ns
        self._files: dict[str, StoredFile] = {}
        self._coming: set[Incoming] = set()
        self._held: dict[str, tuple[int, str, int]] = {}
        self._room = Room(limits.total, limits.per_key)
        self._latest_ns = 0
        for place in sorted(folder.iterdir()):
            if place.name.startswith((COMING, _GONE)):
                place.unlink() if place.is_file() else shutil.rmtree(place, ignore_errors=True)
            elif (found := _read(place)) is not None:
                self._enter(found)
                self._latest_ns = max(self._latest_ns, found.made_ns)

    @property
    def total_bytes(self) -> int:
        """Bytes of all files, those under way and those only batches read any more included."""
        return self._room.total

    def open(self, owner: str) -> Incoming:
        """Begin an upload. Raises RequestError where this key has as many files as it may, or will have them."""
        self.sweep()
        kept = sum(1 for file in self._files.values() if owns(owner, file.owner))
        if kept + sum(1 for incoming in self._coming if incoming.owner == owner) >= self._limits.count:
            raise RequestError(
                f"{self._limits.count} files are stored for this key, which is the limit; delete some",
                "too_many_files",
            )
        with stored():
            incoming = Incoming(self, self._folder / new_id(COMING), owner)
        self._coming.add(incoming)
        return incoming

    def reserve(self, incoming: Incoming, more: int) -> None:
        """Account for bytes about to be written. Raises RequestError where a limit is passed."""
        if incoming.size_bytes + more > self._limits.per_file:
            raise RequestError(
                f"the file is larger than {self._limits.per_file} bytes, which is the limit; split it", "body_too_large"
            )
        self._room.take(incoming.owner, more)

    async def keep(
        self, incoming: Incoming, owner: str, filename: str, purpose: str, expires_after_s: int | None = None
    ) -> StoredFile:
        """The upload is whole: it becomes a file. Raises StorageProblem."""
        with stored():
            sha256 = await asyncio.to_thread(incoming.seal)
            file = self._entry(new_id("file-"), owner, filename, purpose, incoming.size_bytes, sha256, expires_after_s)
            await asyncio.to_thread(self._settle, incoming.folder, file)
        self._leave(incoming)
        self._enter(file)
        return file

    def drop(self, incoming: Incoming) -> None:
        """The upload failed: nothing of it stays."""
        self._leave(incoming)
        incoming.close()
        shutil.rmtree(incoming.folder, ignore_errors=True)

    async def put(
        self, file_id: str, source: Path, owner: str, filename: str, purpose: str, expires_after_s: int | None = None
    ) -> StoredFile:
        """Take a file the server made, by moving it in, under an id chosen before; again is nothing.

        Raises StorageProblem."""
        known = self._files.get(file_id)
        if known is not None:
            return known
        with stored():
            folder, size, sha256 = await asyncio.to_thread(self._take, source)
            file = self._entry(file_id, owner, filename, purpose, size, sha256, expires_after_s)
            await asyncio.to_thread(self._settle, folder, file)
        self._enter(file)
        return file

    def get(self, owner: str, file_id: str) -> StoredFile:
        """The file, where it is this key's. Raises RequestError (not_found)."""
        file = self._files.get(file_id)
        if file is None or not owns(owner, file.owner) or self._expired(file):
            raise RequestError("no file of that id; GET /v1/files lists yours", "not_found")
        return file

    def page(self, owner: str, listing: Listing) -> tuple[list[StoredFile], bool]:
        """One page of this key's files, and whether there are more. Raises RequestError where `after` is no file."""
        mine = [file for file in self._files.values() if owns(owner, file.owner) and not self._expired(file)]
        if listing.purpose is not None:
            mine = [file for file in mine if file.purpose == listing.purpose]
        return cut_page(mine, listing, lambda file: (file.made_ns, file.id))

    def folder(self, file: StoredFile) -> Path:
        """Where the file lies; its parsed text may be put beside it."""
        return self._folder / file.id

    def content(self, file: StoredFile) -> Path:
        """The bytes, to be read by whoever opens them before the file is deleted."""
        return self.folder(file) / CONTENT

    async def delete(self, owner: str, file_id: str) -> None:
        """Raises RequestError (not_found)."""
        file = self.get(owner, file_id)
        self._forget(file)
        await asyncio.to_thread(self._remove, file)

    def hold(self, file_id: str, owner: str, size_bytes: int) -> None:
        """A batch reads these bytes, which it keeps when the file is deleted: they count until it has ended."""
        holders = self._held.get(file_id, (0, owner, size_bytes))[0]
        if not holders and file_id not in self._files:
            self._room.add(owner, size_bytes)
        self._held[file_id] = holders + 1, owner, size_bytes

    def release(self, file_id: str) -> None:
        """The batch has ended."""
        holders, owner, size_bytes = self._held.pop(file_id)
        if holders > 1:
            self._held[file_id] = holders - 1, owner, size_bytes
        elif file_id not in self._files:
            self._room.give_back(owner, size_bytes)

    def sweep(self) -> int:
        """Remove what has expired; returns how many files that were."""
        gone = [file for file in self._files.values() if self._expired(file)]
        for file in gone:
            self._forget(file)
            self._remove(file)
        return len(gone)

    def _entry(
        self, file_id: str, owner: str, filename: str, purpose: str, size: int, sha256: str, expires_after_s: int | None
    ) -> StoredFile:
        self._latest_ns = made_ns = max(self._clock_ns(), self._latest_ns + 1)  # no two files share a place in lists
        lives_s: float | None = expires_after_s
        if lives_s is None and purpose in ("batch", "batch_output"):
            lives_s = self._limits.batch_s
        expires_at = None if lives_s is None else int(made_ns // _SECOND_NS + lives_s)
        return StoredFile(file_id, owner, filename, purpose, size, sha256, made_ns, expires_at)

    def _settle(self, folder: Path, file: StoredFile) -> None:
        write_private(folder / _META, orjson.dumps(asdict(file)))
        folder.rename(self._folder / file.id)
        sync_folder(self._folder)

    def _take(self, source: Path) -> tuple[Path, int, str]:
        folder = self._folder / new_id(COMING)
        folder.mkdir(mode=0o700)
        with open(source, "rb") as handle:
            sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
        source.rename(folder / CONTENT)
        return folder, (folder / CONTENT).stat().st_size, sha256

    def _enter(self, file: StoredFile) -> None:
        self._files[file.id] = file
        self._room.add(file.owner, file.size_bytes)

    def _leave(self, incoming: Incoming) -> None:
        """An upload is under way no more."""
        if incoming in self._coming:
            self._coming.remove(incoming)
            self._room.give_back(incoming.owner, incoming.size_bytes)

    def _forget(self, file: StoredFile) -> None:
        if self._files.pop(file.id, None) is not None and file.id not in self._held:
            self._room.give_back(file.owner, file.size_bytes)

    def _remove(self, file: StoredFile) -> None:
        remove_folder(self.folder(file), self._folder / f"{_GONE}{file.id}")

    def _expired(self, file: StoredFile) -> bool:
        return file.expires_at is not None and file.expires_at * _SECOND_NS <= self._clock_ns()


def _read(folder: Path) -> StoredFile | None:
    """None where the folder is none of ours, or its bytes are gone."""
    try:
        file = StoredFile(**orjson.loads((folder / _META).read_bytes()))
        whole = (folder / CONTENT).stat().st_size == file.size_bytes and file.id == folder.name
    except (OSError, ValueError, TypeError):
        return None
    return file if whole else None
