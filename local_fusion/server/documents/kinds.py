"""What kind of document some bytes are, and the sentences for those that cannot be read."""

from __future__ import annotations

from typing import Literal

Kind = Literal["text", "html", "pdf"]
SENTENCES = {
    "encrypted": "the PDF is encrypted; save it without a password",
    "no_text": "the PDF has no text layer (pictures of pages?); run text recognition over it first",
    "broken_pdf": "the PDF is broken; print or save it again as PDF",
    "not_utf8": "the file is neither PDF nor UTF-8 text; save it as one of them",
    "empty": "the document holds no text",
    "too_large": "the document is too large to be read as context; split it",
    "too_slow": "the document takes too long or too much memory to read; split it or save it as text",
    "unreadable": "the document cannot be read; save it as text",
    "not_base64": "file_data is no base64; give a data URL or the plain base64 of the file",
}
LASTING = frozenset(SENTENCES) - {"too_slow", "unreadable", "not_base64"}
"""What will be so whenever the same bytes are read again. The rest may have been the machine's fault."""
_HTML_NAMES = (".html", ".htm", ".xhtml")


def kind_of(name: str, head: bytes) -> Kind:
    """By the first bytes, else by the name. `head`: at least the first kilobyte."""
    if b"%PDF-" in head[:1024]:
        return "pdf"
    begin = head[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if begin.startswith((b"<!doctype html", b"<html")) or is_html_name(name):
        return "html"
    return "text"


def is_html_name(name: str) -> bool:
    """Whether a file's name alone makes it HTML."""
    return name.lower().endswith(_HTML_NAMES)
