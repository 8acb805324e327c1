"""HTML to plain text that keeps headings, lists and tables, as Markdown would write them. Loops, never recurses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bs4 import BeautifulSoup
from bs4.element import NavigableString, PageElement, PreformattedString, Tag

# Not forms: whole pages stand in one.
_DROPPED = re.compile("script|style|noscript|template|head|iframe|object|embed|svg|canvas|button|select|textarea")
_BLOCKS = re.compile(
    "address|article|aside|blockquote|body|dd|div|dl|dt|fieldset|figcaption|figure|footer|form|h[1-6]|header|hr|html|li|"
    "main|nav|ol|p|pre|section|table|tbody|tfoot|thead|tr|ul|br"
)
_SPACE = re.compile(r"\s+")
_GAP = re.compile(r"\n{3,}")


def plain(source: str) -> str:
    """The text of a page. Nothing that it links to is read."""
    out = _Writer()
    for node, opens in _walk(BeautifulSoup(source, "html.parser")):
        if isinstance(node, Tag):
            out.tag(node, opens)
        elif isinstance(node, NavigableString) and not isinstance(node, PreformattedString):
            out.text(str(node))
    lines = (line.rstrip() for line in "".join(out.pieces).split("\n"))
    return _GAP.sub("\n\n", "\n".join(lines)).strip()


def _walk(root: Tag) -> Iterator[tuple[PageElement, bool]]:
    """Every element as it opens and closes, in document order; dropped ones with all they hold left out."""
    stack: list[tuple[Tag, Iterator[PageElement]]] = [(root, iter(root.contents))]
    while stack:
        tag, children = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            yield tag, False
        elif not isinstance(child, Tag):
            yield child, True
        elif not _DROPPED.fullmatch(child.name) and not child.has_attr("hidden"):
            yield child, True
            stack.append((child, iter(child.contents)))


class _Writer:
    """Pieces of text; `pieces` joined is the page."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._lists: list[int | None] = []  # of each open list: the last number, or None for dots
        self._preformatted = 0
        self._cells = 0

    def tag(self, tag: Tag, opens: bool) -> None:
        """A tag opens or closes."""
        name = tag.name
        if name in ("ul", "ol"):
            self._list(name == "ol", opens)
        elif name == "pre":
            self._preformatted += 1 if opens else -1
        if name in ("td", "th"):
            if opens and self._cells:
                self.pieces.append(" | ")
            self._cells += 1 if opens else 0
        elif _BLOCKS.fullmatch(name):
            self._block(name, opens)

    def text(self, text: str) -> None:
        """A run of text; white space is folded but in preformatted blocks."""
        if self._preformatted:
            self.pieces.append(text)
            return
        folded = _SPACE.sub(" ", text)
        if not self.pieces or self.pieces[-1].endswith(("\n", " ")):
            folded = folded.lstrip(" ")
        if folded:
            self.pieces.append(folded)

    def _block(self, name: str, opens: bool) -> None:
        if name == "tr":
            self._cells = 0
        inner = self._cells > 0 and name not in ("tr", "table", "thead", "tbody", "tfoot")
        if inner:  # a cell stays on its row's line
            self.text(" ")
            return
        self._line(2 if name in ("p", "table", "blockquote", "pre") or _heading(name) else 1)
        if opens and _heading(name):
            self.pieces.append("#" * int(name[1]) + " ")
        elif opens and name == "li":
            self._item()
        elif opens and name == "hr":
            self.pieces.append("---\n")

    def _list(self, numbered: bool, opens: bool) -> None:
        if opens:
            self._lists.append(0 if numbered else None)
        elif self._lists:
            self._lists.pop()

    def _item(self) -> None:
        indent = "  " * min(max(0, len(self._lists) - 1), 8)
        if self._lists and self._lists[-1] is not None:
            self._lists[-1] += 1
            self.pieces.append(f"{indent}{self._lists[-1]}. ")
        else:
            self.pieces.append(f"{indent}- ")

    def _line(self, count: int) -> None:
        """End the line, unless the page has just begun or the last piece did."""
        if self.pieces:
            last = self.pieces[-1]
            have = len(last) - len(last.rstrip("\n"))
            if have < count:
                self.pieces.append("\n" * (count - have))


def _heading(name: str) -> bool:
    return len(name) == 2 and name[0] == "h" and name[1].isdigit()
