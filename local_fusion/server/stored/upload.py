"""Reads one multipart upload: text fields into memory, the one file straight to the disk as its bytes come.

Knows nothing of what the fields mean. Headers and text fields are bounded; the file is bounded by its store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from local_fusion.errors import RequestError
from local_fusion.server.stored.file_store import Incoming

MAX_FIELDS, MAX_FIELD_BYTES, MAX_HEADER_BYTES = 8, 1024, 8 * 1024
MAX_NAME_CHARS = 255


class UploadReader:
    """Parses the stream. After `read`: `fields`, `filename`, and `incoming`, which the caller keeps or drops; where
    `read` raises, `incoming` is there too if the file had begun."""

    def __init__(self, content_type: str, begin: Callable[[], Incoming]) -> None:
        """`begin` opens the place the file goes to. Raises RequestError where the body is not multipart."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
            raise RequestError("send the file as multipart/form-data", "invalid_content_type")
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.incoming: Incoming | None = None
        self._begin = begin
        self._pieces: list[bytes] = []  # of the file, parsed and not yet written
        self._header = (b"", b"")
        self._header_bytes = 0
        self._disposition = b""
        self._field: str | None = None
        self._value = b""
        self._ended = False
        self._trailing = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": lambda data, start, end: self._head(data[start:end], b""),
                "on_header_value": lambda data, start, end: self._head(b"", data[start:end]),
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._end,
            },
        )

    async def read(self, chunks: AsyncIterator[bytes]) -> None:
        """Parse to the end. Raises RequestError or StorageProblem."""
        try:
            async for chunk in chunks:
                if self._ended:
                    self._trail(len(chunk))
                    continue
                self._parser.write(chunk)
                if self._pieces and self.incoming is not None:
                    data, self._pieces = b"".join(self._pieces), []
                    await self.incoming.write(data)
            self._parser.finalize()
        except FormParserError:
            raise _broken() from None
        if not self._ended:
            raise _broken()
        if self.incoming is None:
            raise RequestError("the part 'file' is missing; add it, with a file name", "missing_field", "file")

    def _trail(self, size: int) -> None:
        """What follows the last part means nothing; some clients end it with a line break."""
        self._trailing += size
        if self._trailing > MAX_HEADER_BYTES:
            raise RequestError("bytes follow the last part; end the body there", "invalid_multipart")

    def _part_begins(self) -> None:
        self._disposition, self._field, self._value, self._header = b"", None, b"", (b"", b"")
        self._header_bytes = 0

    def _head(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise RequestError("the headers of a part are too long", "invalid_multipart")
        self._header = self._header[0] + name, self._header[1] + value

    def _header_ends(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            if name != "file" or self.incoming is not None:
                raise RequestError("send one file, as the part 'file'", "invalid_multipart", name[:64])
            self.filename = plain_name(options[b"filename"].decode("utf-8", "replace"))
            self.incoming = self._begin()
            return
        if name in self.fields or len(self.fields) >= MAX_FIELDS:
            raise RequestError("a field is there twice, or there are too many", "invalid_multipart", name[:64])
        self._field = name

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._pieces.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise RequestError("a text field is too long", "invalid_field", self._field[:64])

    def _part_ends(self) -> None:
        if self._field is not None:
            self.fields[self._field] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self._ended = True


def plain_name(name: str) -> str:
    """A file name without folders and control characters, never empty, of bounded length."""
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(char for char in last if char.isprintable()).strip()
    return shown[-MAX_NAME_CHARS:] or "file"


def _broken() -> RequestError:
    return RequestError("the multipart body is broken or cut short; send it again", "invalid_multipart")
