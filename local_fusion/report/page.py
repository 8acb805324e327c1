"""The frame of every report: one HTML page, whole in itself, in which model text can only ever be text.

Invariants. No asset from outside: the policy in the page's head allows nothing but this page's own style and script, by
their sha256; style attributes and event attributes are refused by the browser too, so a body must not use them. Text
gets into the page in two ways only: through `escaped` into HTML, or as JSON in a data block that the script shows by
`textContent`. Knows nothing of runs or evaluations: `run_page` and the evaluation's report fill it.

    body = joined(section("Outcome", table(("model", "rows"), [("ada", 12)]), ident="outcome"), browser("Rows", word))
    page("Run of trio", "finished", body, rows) -> bytes
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import NewType

import orjson

Html = NewType("Html", str)
"""HTML whose every piece of foreign text went through `escaped`."""

_FOLDER = Path(__file__).parent
_HIDDEN = (*range(0x20), *range(0x7F, 0xA0))
_SPACES = (0x09, 0x0A)
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN: Mapping[int, str] = {
    **{code: chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd" for code in _HIDDEN},
    **{code: f"\u27e8U+{code:04X}\u27e9" for code in (*_DIRECTIONS, 0x2028, 0x2029, 0xFEFF)},
    **{code: chr(code) for code in _SPACES},
    0x0D: "",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One text of a row: who said it, what is to be known of it, and the words.

    `mark`: "", good, bad, chosen, or calls (lines that must not wrap)."""

    head: str
    text: str
    meta: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Parts shown side by side under one heading."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class BrowserRow:
    """One entry of the searchable list. `tags`: words it can be filtered by; `note`: the line under its name."""

    id: str
    note: str
    tags: tuple[str, ...]
    groups: tuple[Group, ...]


def escaped(value: object) -> Html:
    """Any value as text in HTML: markup is harmless, control characters and changes of direction are made visible."""
    return Html(escape(visible(str(value)), quote=True))


def visible(text: str) -> str:
    """`text` with what a reader cannot see (NUL, escape codes, bidi overrides) as signs, and as valid Unicode."""
    return text.encode("utf-8", "replace").decode("utf-8").translate(_SHOWN)


def joined(*pieces: Html) -> Html:
    """Pieces behind each other."""
    return Html("\n".join(pieces))


def section(title: str, *body: Html, ident: str) -> Html:
    """A part of the page with a heading; `ident` is its anchor."""
    return Html(
        f'<section id="{escaped(ident)}" aria-labelledby="{escaped(ident)}-h">'
        f'<h2 id="{escaped(ident)}-h">{escaped(title)}</h2>\n{joined(*body)}\n</section>'
    )


def paragraph(text: str, kind: str = "word") -> Html:
    """A sentence. `kind`: word (quiet), warning or lead."""
    return Html(f'<p class="{escaped(kind)}">{escaped(text)}</p>')


def cards(entries: Iterable[tuple[str, str, str]]) -> Html:
    """Figures to see first: (name, figure, a word about it) each."""
    shown = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(figure)}</dd><dd class=word>{escaped(word)}</dd></div>"
        for name, figure, word in entries
    )
    return Html(f'<dl class="cards">{shown}</dl>')


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "", words: Sequence[int] = (0,)
) -> Html:
    """A table; the columns at places `words` hold text, all others figures. Cells are escaped; `Html` cells are not."""

    def cell(place: int, value: object, tag: str) -> str:
        shown = value if isinstance(value, _Made) else escaped(value)
        return f"<{tag}{'' if place in words else ' class=figure'}>{shown}</{tag}>"

    head = "".join(cell(place, name, "th") for place, name in enumerate(columns))
    body = "".join(f"<tr>{''.join(cell(place, value, 'td') for place, value in enumerate(row))}</tr>\n" for row in rows)
    told = f"<caption>{escaped(caption)}</caption>" if caption else ""
    whole = f"<table>{told}<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    return Html(f'<div class="wide" tabindex="0">{whole}</div>')


class _Made(str):
    """A cell that is HTML already."""

    __slots__ = ()


def made(html: Html) -> str:
    """`html` as a cell of a table that is not escaped again."""
    return _Made(html)


def browser(title: str, word: str, ident: str = "rows") -> Html:
    """The place of the searchable list; its rows are given to `page`. Once per page."""
    return section(title, paragraph(word), Html(_BROWSER), ident=ident)


_BROWSER = """<div class="tools"><label>Search <input type="search" id="find" autocomplete="off" spellcheck="false"
 placeholder="words of a prompt, an answer, an id" aria-keyshortcuts="/"></label>
<div id="chips" role="group" aria-label="Filters"></div><output id="count" aria-live="polite"></output></div>
<div class="split"><div id="list" role="listbox" aria-label="Rows" tabindex="0"></div>
<article id="detail" tabindex="-1" aria-label="The chosen row"></article></div>
<p class="word"><kbd>/</kbd> search, <kbd>↑</kbd> <kbd>↓</kbd> or <kbd>j</kbd> <kbd>k</kbd> next row,
 <kbd>Esc</kbd> clear.</p>
<noscript><p class="warning">The list of rows needs JavaScript; everything above does not.</p></noscript>"""


def page(
    title: str, lead: str, body: Html, rows: Iterable[BrowserRow] = (), links: Mapping[str, str] | None = None
) -> bytes:
    """The whole page, UTF-8. `links`: anchor to name, for the line of links at the top; `rows` fill `browser`."""
    style, script = _asset("frame.css"), _asset("frame.js")
    policy = (
        "default-src 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    listed = "".join(f'<a href="#{escaped(anchor)}">{escaped(name)}</a>' for anchor, name in (links or {}).items())
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">',
            f"<title>{escaped(title)}</title>\n<style>{style}</style>\n</head>\n<body>",
            '<a class="skip" href="#main">To the content</a>',
            f'<header><div><h1>{escaped(title)}</h1><p class="lead">{escaped(lead)}</p></div>',
            '<button type="button" id="theme" aria-label="Light or dark">◐</button></header>',
            f'<nav aria-label="Sections">{listed}</nav>\n<main id="main">',
            body,
            f'</main>\n<script type="application/json" id="data">{_data(rows)}</script>',
            f"<script>{script}</script>\n</body>\n</html>\n",
        )
    ).encode()


def _data(rows: Iterable[BrowserRow]) -> str:
    """JSON that no HTML parser can see an end of the block in."""
    plain = [
        {
            "id": visible(row.id),
            "note": visible(row.note),
            "tags": [visible(tag) for tag in row.tags],
            "groups": [
                {"title": visible(group.title), "parts": [_part(part) for part in group.parts]} for group in row.groups
            ],
        }
        for row in rows
    ]
    return orjson.dumps(plain).decode().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _part(part: Part) -> dict[str, str]:
    return {
        "head": visible(part.head),
        "text": visible(part.text),
        "meta": visible(part.meta),
        "mark": part.mark,
    }


@cache
def _asset(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
