"""Writes a list of a `models.yaml` anew, item by item: what is said beside or above a member goes where it goes.

A comment on an item's line, or directly above it, is the item's; one followed by a blank line is the list's and stays.
Invariant: of an item that stays, every comment stays with it; where the layout does not tell whose a comment is,
`CannotEdit` is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml.nodes import Node, SequenceNode

from local_fusion.calibrate.yaml_spans import CannotEdit, Edit, comments_in, end_of, line_end, line_start, spliced

Rewrite = Callable[[Node, Any, Any], list[Edit]]
"""Edits of an item from its node, what it is, and what it shall be."""
Render = Callable[[Any], str]


@dataclass(frozen=True)
class _Item:
    """An item's own text, and what belongs to it: comment lines `above`, a comment `beside` it, without indents."""

    node: Node
    is_: Any
    above: tuple[str, ...]
    beside: str


@dataclass(frozen=True)
class _Written:
    above: tuple[str, ...]
    text: str
    beside: str


def matched(present: Sequence[Any], wanted: Sequence[Any]) -> list[int | None]:
    """For each wanted entry the number of the present one it goes on from: the same one, else one of the same model."""
    free = list(range(len(present)))
    found: list[int | None] = [None] * len(wanted)
    for exactly in (True, False):
        for place, entry in enumerate(wanted):
            alike = [number for number in free if _alike(present[number], entry, exactly)]
            if found[place] is None and alike:
                found[place] = alike[0]
                free.remove(alike[0])
    return found


def _alike(one: Any, other: Any, exactly: bool) -> bool:
    return bool(one == other if exactly else model_of(one) == model_of(other))


def model_of(entry: Any) -> Any:
    """The model of a seat, however it is written."""
    return entry.get("model") if isinstance(entry, dict) else entry


def block_list(
    text: str,
    key: Node,
    value: SequenceNode,
    present: Sequence[Any],
    wanted: Sequence[Any],
    rewrite: Rewrite,
    render: Render,
) -> tuple[int, int, str]:
    """The edit of a list with a dash before each item."""
    _in_order(key, value)
    begin = above = line_end(text, key.end_mark.index)
    blocks, heads = list[tuple[str, str]](), list[str]()
    for node in value.value:
        start, end = line_start(text, node.start_mark.index), line_end(text, end_of(text, None, node))
        if text[start : node.start_mark.index].strip() != "-":
            raise CannotEdit("a dash is not on its item's line")
        head, own = _parted(text[above:start])
        heads.append(head)
        blocks.append((own, text[start:end]))
        above = end
    indent = text[line_start(text, value.value[0].start_mark.index) : value.value[0].start_mark.index].split("-")[0]
    written = []
    for place, number in enumerate(matched(present, wanted)):
        head = heads[place] if place < len(heads) else ""
        if number is None:
            written.append(f"{head}{indent}- {render(wanted[place])}\n")
            continue
        own, body = blocks[number]
        node = value.value[number]
        if present[number] != wanted[place]:
            begins, ends = line_start(text, node.start_mark.index), line_end(text, end_of(text, None, node))
            body = _local(text, begins, ends, rewrite(node, present[number], wanted[place]))
        written.append(head + own + (body if body.endswith("\n") else body + "\n"))
    left = "".join(heads[len(wanted) :])
    new = "".join(written) + left
    if not text[:above].endswith("\n"):
        new = new.rstrip("\n")
    return begin, above, new


def flow_list(
    text: str, value: SequenceNode, present: Sequence[Any], wanted: Sequence[Any], rewrite: Rewrite, render: Render
) -> tuple[int, int, str]:
    """The edit of a list in brackets that holds comments: one item a line."""
    _in_order(None, value)
    close = value.end_mark.index - 1
    opened = text.index("[", value.start_mark.index) + 1
    nodes = value.value
    ends = [opened, *(end_of(text, None, node) for node in nodes)]
    starts = [*(int(node.start_mark.index) for node in nodes), close]
    gaps = [_gap(text, begin, end) for begin, end in zip(ends, starts, strict=True)]
    head, items = gaps[0][0], list[_Item]()
    for number, node in enumerate(nodes):
        beside, _ = gaps[number + 1]
        first = number == 0 or "\n" in text[ends[number] : starts[number]]
        last = number == len(nodes) - 1 or "\n" in text[ends[number + 1] : starts[number + 1]]
        if (beside and not first) or (gaps[number][1] and not last):
            raise CannotEdit("a comment is beside or above several members of one line")
        items.append(_Item(node, present[number], gaps[number][1], beside))
    written = []
    for place, goes_on in enumerate(matched(present, wanted)):
        if goes_on is None:
            written.append(_Written((), render(wanted[place]), ""))
            continue
        item = items[goes_on]
        edits = [] if item.is_ == wanted[place] else rewrite(item.node, item.is_, wanted[place])
        own = _local(text, item.node.start_mark.index, end_of(text, None, item.node), edits)
        written.append(_Written(item.above, own, item.beside))
    indent = _indent(text, starts[:-1], line_start(text, value.start_mark.index))
    lines = [f"  {head}\n" if head else "\n"]
    for place, one in enumerate(written):
        lines += [f"{indent}{comment}\n" for comment in one.above]
        comma = "" if place == len(written) - 1 else ","
        lines.append(f"{indent}{one.text}{comma}{'  ' + one.beside if one.beside else ''}\n")
    lines += [f"{indent}{comment}\n" for comment in gaps[-1][1]]
    before = text[line_start(text, close) : close]
    return opened, close, "".join(lines) + (before if not before.strip() else indent)


def _in_order(key: Node | None, value: SequenceNode) -> None:
    """Aliases stand for what is elsewhere, so that they have no place of their own."""
    places = [*([key.end_mark.index] if key is not None else []), value.start_mark.index]
    items = [node.start_mark.index for node in value.value]
    if places != sorted(places) or items != sorted(set(items)) or items[0] < places[-1]:
        raise CannotEdit("an alias is among the members")


def _local(text: str, begin: int, end: int, edits: Sequence[Edit]) -> str:
    """A part of the text with its edits."""
    if any(first < begin or last > end for first, last, _ in edits):
        raise CannotEdit("a member's settings reach beyond its own lines")
    return spliced(text[begin:end], [(first - begin, last - begin, new) for first, last, new in edits])


def _parted(text: str) -> tuple[str, str]:
    """Lines above an item: those up to the last blank one are the list's, the others the item's."""
    lines = text.splitlines(keepends=True)
    blank = max((number for number, line in enumerate(lines) if not line.strip()), default=-1)
    return "".join(lines[: blank + 1]), "".join(lines[blank + 1 :])


def _gap(text: str, begin: int, end: int) -> tuple[str, tuple[str, ...]]:
    """Between two items: the comment beside the first, and those above the second."""
    comments = comments_in(text, begin, end)
    beside = [comment for place, comment in comments if "\n" not in text[begin:place]]
    return beside[0] if beside else "", tuple(comment for _, comment in comments[len(beside) :])


def _indent(text: str, starts: Sequence[int], first_line: int) -> str:
    """That of the first item on a line of its own; else two more than the line where the list begins."""
    for start in starts:
        before = text[line_start(text, start) : start]
        if before and not before.strip():
            return before
    begun = text[first_line:]
    return " " * (len(begun) - len(begun.lstrip(" ")) + 2)
