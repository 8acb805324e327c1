"""The frame: foreign text is text, wherever it stands, and the policy names what is in the page and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from local_fusion.report.charts import clock, ranked, share_bar
from local_fusion.report.page import (
    BrowserRow,
    Group,
    Part,
    browser,
    cards,
    escaped,
    joined,
    page,
    paragraph,
    section,
    table,
    visible,
)

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\u202e\x00\ud800&amp;'


class Reader(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture
def whole() -> str:
    body = joined(
        cards([(EVIL, EVIL, EVIL)]),
        section(EVIL, table((EVIL, "n"), [(EVIL, 1)], EVIL), paragraph(EVIL), ident="one"),
        ranked(EVIL, {EVIL: 3}, 4),
        share_bar([("f0", EVIL, 2.0)], EVIL),
        browser("Rows", EVIL),
    )
    row = BrowserRow(EVIL, EVIL, (EVIL,), (Group(EVIL, (Part(EVIL, EVIL, EVIL, "good"),)),))
    return page(EVIL, EVIL, body, [row], {"one": EVIL}).decode()


def test_no_foreign_text_becomes_markup(whole: str) -> None:
    found = Reader(whole)
    assert [tag for tag, _ in found.tags if tag in ("img", "iframe", "object", "link", "base", "form")] == []
    assert [attributes for tag, attributes in found.tags if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert not [name for name in ("src", "href") if not (attributes.get(name) or "#").startswith("#")], tag


def test_the_policy_allows_the_pages_own_style_and_script_alone(whole: str) -> None:
    found = Reader(whole)
    policy = next(attributes["content"] for tag, attributes in found.tags if "http-equiv" in attributes)
    assert policy is not None
    style, script = (re.findall(f"<{tag}>(.*?)</{tag}>", whole, re.DOTALL) for tag in ("style", "script"))
    assert (len(style), len(script)) == (1, 1)

    def digest(text: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src '{digest(style[0])}'",
        f"script-src '{digest(script[0])}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert whole.index("Content-Security-Policy") < whole.index("<style>")


def test_rows_come_back_as_they_were_but_for_what_cannot_be_seen(whole: str) -> None:
    data = re.search(r'id="data">(.*?)</script>', whole, re.DOTALL)
    assert data is not None
    row = json.loads(data.group(1))[0]
    shown = '</script><script>alert(1)</script><img src=x onerror="alert(2)">⟨U+202E⟩␀?&amp;'
    assert row["groups"][0]["parts"][0] == {"head": shown, "text": shown, "meta": shown, "mark": "good"}


def test_what_cannot_be_seen_is_shown() -> None:
    assert visible("a\u202eb\x00c\x1bd\re\tf\ng\x7f\x9b") == "a⟨U+202E⟩b␀c␛de\tf\ng␡\ufffd"
    assert escaped("<b a='1'>&") == "&lt;b a=&#x27;1&#x27;&gt;&amp;"


def test_a_page_without_a_list_needs_no_rows() -> None:
    assert b"Nothing" in page("t", "l", section("s", paragraph("Nothing"), ident="s"))


@pytest.mark.parametrize(("seconds", "shown"), [(0.25, "0.2 s"), (42.4, "42 s"), (123, "2:03"), (3723.2, "1:02:03")])
def test_seconds_are_shown_as_a_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
