"""Where things are in the text of a YAML file: ends of nodes, lines, comments; and edits by place. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_ALIAS = re.compile(r"\s*:\s*(\*[^\s,\]}]+)")
_COMMENT = re.compile(r"(?:(?<=[\s,\[\]{}])|^)#[^\n]*", re.MULTILINE)

Edit = tuple[int, int, str]
"""From, to (characters), and what comes there."""


class CannotEdit(Exception):
    """The text cannot be changed as wanted without losing what must stay."""


def end_of(text: str, key: Node | None, value: Node) -> int:
    """Where a value's own text ends; blank lines and comments after a block are not its own."""
    if key is not None and value.start_mark.index < key.end_mark.index:
        alias = _ALIAS.match(text, key.end_mark.index)
        return alias.end() if alias else int(key.end_mark.index)
    if isinstance(value, MappingNode) and not value.flow_style and value.value:
        return end_of(text, *value.value[-1])
    if isinstance(value, SequenceNode) and not value.flow_style and value.value:
        return end_of(text, None, value.value[-1])
    begin, end = int(value.start_mark.index), int(value.end_mark.index)
    return begin + len(text[begin:end].rstrip())


def line_start(text: str, place: int) -> int:
    """The first character of the line."""
    return text.rfind("\n", 0, max(0, place)) + 1


def line_end(text: str, place: int) -> int:
    """Just behind the line's end."""
    found = text.find("\n", place)
    return len(text) if found < 0 else found + 1


def behind_comments(text: str, place: int, column: int) -> int:
    """`place`, which begins a line, or behind the last of the comments that follow there, at this column or deeper;
    blank lines may be between."""
    behind = place
    while place < len(text):
        line = text[place : (after := line_end(text, place))]
        told = line.lstrip(" ")
        if told.strip() and not (told.startswith("#") and len(line) - len(told) >= column):
            break
        place = after
        behind = place if told.strip() else behind
    return behind


def comments_in(text: str, begin: int, end: int, *inside: Node) -> list[tuple[int, str]]:
    """Comments between two places, with theirs; `inside`: the nodes there, whose scalars may hold number signs."""
    scalars = [span for node in inside for span in _scalars(node)]
    return [
        (found.start(), found.group().rstrip())
        for found in _COMMENT.finditer(text, begin, end)
        if not any(first <= found.start() < last for first, last in scalars)
    ]


def spliced(text: str, edits: Sequence[Edit]) -> str:
    """The text with its edits, which do not overlap; new lines end as the text's own do."""
    newline = "\r\n" if "\r\n" in text else "\n"
    for begin, end, new in reversed(sorted(edits, key=lambda edit: edit[:2])):  # noqa: C413 (keeps the order of equals)
        lead = "\n" if begin == len(text) and text and not text.endswith("\n") and "\n" in new else ""
        added = re.sub(r"\r?\n", newline, lead + new)
        text = text[:begin] + added + text[end:]
    return text


def _scalars(node: Node) -> Iterator[tuple[int, int]]:
    if isinstance(node, ScalarNode):
        yield int(node.start_mark.index), int(node.end_mark.index)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            yield from _scalars(item)
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _scalars(key)
            yield from _scalars(value)
