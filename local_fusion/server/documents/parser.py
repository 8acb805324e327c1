"""The program that reads one hostile document in a process of its own: `python -m … FILE KIND MAX_CHARS`.

Limits on CPU, memory, files and cores are set before any parser is imported. It opens its one file, writes nothing and
answers on its standard output: one JSON object with `text`, or with `problem`, a key of `kinds.SENTENCES`. Its owner
bounds the time by the clock.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

CPU_S, MEMORY_BYTES = 60, 1 << 30


def main(path: str, kind: str, max_chars: int) -> int:
    """Read, print, leave."""
    limit()
    read = partial(pdf_text, max_chars=max_chars) if kind == "pdf" else html_text
    sys.stdout.write(json.dumps(answer(Path(path), read, max_chars)))
    return 0


def limit() -> None:
    """Bound this process."""
    for what, most in (
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def answer(path: Path, read: Callable[[Path], str], max_chars: int) -> dict[str, str]:
    """What `read` makes of the file, or the key of why it could not."""
    try:
        text = read(path)
    except Unreadable as problem:
        return {"problem": problem.args[0]}
    except MemoryError:
        return {"problem": "too_slow"}
    except Exception:  # a parser's own bug, on bytes made to find it
        return {"problem": "unreadable"}
    if len(text) > max_chars:
        return {"problem": "too_large"}
    return {"text": text} if text.strip() else {"problem": "empty"}


class Unreadable(Exception):
    """Its argument is a key of `kinds.SENTENCES`."""


def pdf_text(path: Path, max_chars: int) -> str:
    """The text layer, page by page, each after a line with its number. Raises Unreadable."""
    import logging

    from pypdf.errors import PyPdfError

    logging.disable()
    try:
        pages = _pages(path, max_chars)
    except (PyPdfError, RecursionError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise Unreadable("broken_pdf") from None
    if not pages:
        raise Unreadable("no_text")
    return "\n\n".join(pages)


def _pages(path: Path, max_chars: int) -> list[str]:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError

    reader = PdfReader(path)
    if reader.is_encrypted:
        try:
            if not reader.decrypt(""):  # many PDFs are locked for printing only, with no password to read
                raise Unreadable("encrypted")
        except DependencyError:
            raise Unreadable("encrypted") from None
    pages, chars = [], 0
    for number, page in enumerate(reader.pages, 1):
        text = "\n".join(line.rstrip() for line in page.extract_text().splitlines()).strip()
        chars += len(text)
        if chars > max_chars:
            raise Unreadable("too_large")
        if text:
            pages.append(f"[page {number}]\n{text}")
    return pages


def html_text(path: Path) -> str:
    """The readable text: headings, lists and tables as Markdown writes them; scripts, styles and forms dropped.
    Nothing that the page names is fetched. Raises Unreadable."""
    from local_fusion.server.documents.html_text import plain

    try:
        source = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("not_utf8") from None
    return plain(source)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
