"""Edits one fusion in the text of a `models.yaml`: comments, order, anchors, quotes and indents of all else are kept.

The text is read by ruamel.yaml for the places of its nodes, and only the spans that change are written anew; its own
round trip would set quotes, indents and folded lines of the whole file anew. Invariants: whatever comes of an edit is
read again, and refused unless it says exactly what was wanted and nothing else changed; a comment goes only with the
member or the setting it is about, and an edit that would lose another is refused, with what is to be written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from local_fusion.calibrate.yaml_lists import block_list, flow_list
from local_fusion.calibrate.yaml_spans import (
    CannotEdit,
    Edit,
    behind_comments,
    comments_in,
    end_of,
    line_end,
    line_start,
    spliced,
)
from local_fusion.config import parse_config
from local_fusion.config.schema import FusionSettings
from local_fusion.errors import ConfigError, InputError

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
MARK = "(local-fusion calibrate)"
TOUCHING = "touching the rest (anchors inside the fusion?)"


def edited(text: str, source: Path, name: str, wanted: FusionSettings, comment: str = "") -> str:
    """The text with the fusion `name` as `wanted`; a new one is added as the last, under a comment.

    Raises InputError, with what is to be written by hand, where the text is such that it cannot be edited so.
    """
    before = parse_config(text, source)
    fusions = _fusions(text, source)
    by_hand = _by_hand(before.fusions.get(name), wanted)
    if name not in before.fusions:
        changed = spliced(text, [_addition(text, fusions, name, wanted, comment)])
    else:
        _, node = fusions.value[_place(fusions, source, name)]
        try:
            edits = _edits(text, node, before.fusions[name], wanted) if isinstance(node, MappingNode) else []
        except CannotEdit as why:
            raise _refusal(source, f"losing comments: {why}", by_hand) from None
        changed = spliced(text, edits)
    _check(changed, source, {**before.fusions, name: wanted}, text, by_hand)
    return changed


def without(text: str, source: Path, name: str) -> str:
    """The text without the fusion `name` and the comment that was put over it. Raises InputError, or ConfigError where
    something else names it."""
    before = parse_config(text, source)
    fusions = _fusions(text, source)
    pairs, place = fusions.value, _place(fusions, source, name)
    key, value = pairs[place]
    if fusions.flow_style:
        begin = end_of(text, *pairs[place - 1]) if place else key.start_mark.index
        changed = spliced(text, [(begin, end_of(text, key, value), "")])
    else:
        begin = line_start(text, key.start_mark.index)
        while MARK in (above := text[line_start(text, begin - 1) : begin]) or not above.strip():
            if begin == 0:
                break
            begin = line_start(text, begin - 1)
        changed = spliced(text, [(begin, line_end(text, end_of(text, key, value)), "")])
    parse_config(changed, source)
    _check(changed, source, {other: one for other, one in before.fusions.items() if other != name}, text)
    return changed


def lines_of(text: str, source: Path, name: str) -> str:
    """The lines of the fusion `name`, with what is said among them and right below; "" where it has none of its own."""
    found = _span(text, source, name)
    return "" if found is None else text[found[0] : found[1]]


def put_back(text: str, source: Path, name: str, earlier: str) -> str:
    """The text with the lines that the fusion `name` has in an earlier one. Raises InputError where it then does not
    say what it said there, or the rest would change."""
    then, now = parse_config(earlier, source), parse_config(text, source)
    here, lines = _span(text, source, name), lines_of(earlier, source, name)
    if here is None or not lines:
        raise _refusal(source, TOUCHING)
    if here[1] < len(text) and not lines.endswith("\n"):
        lines += "\r\n" if "\r\n" in text else "\n"
    changed = text[: here[0]] + lines + text[here[1] :]
    _check(changed, source, {**now.fusions, name: then.fusions[name]}, text)
    return changed


def check_name(text: str, source: Path, name: str) -> None:
    """Raises InputError where the lines of the fusion `name` (a new one's place) cannot be found in the text."""
    fusions = _fusions(text, source)
    if name in parse_config(text, source).fusions:
        _place(fusions, source, name)


def rendered(value: Any) -> str:
    """A plain value in YAML's flow style."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{rendered(key)}: {rendered(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(rendered(entry) for entry in value) + "]"
    return json.dumps(value)


def plain_settings(settings: FusionSettings) -> dict[str, Any]:
    """What differs from the defaults, and the mode; a member without settings of its own is its name."""
    data = settings.model_dump(mode="json", exclude_defaults=True)
    data["panel"] = [_seat(seat.model_dump(mode="json", exclude_defaults=True)) for seat in settings.panel]
    data["mode"] = settings.mode
    if len(data.get("writer", ())) == 1:
        data["writer"] = data["writer"][0]
    return data


def _seat(data: dict[str, Any]) -> Any:
    return data["model"] if set(data) == {"model"} else data


def _fusions(text: str, source: Path) -> MappingNode:
    try:
        root = YAML().compose(text)
    except YAMLError:
        raise _refusal(source, TOUCHING) from None
    for key, value in root.value if isinstance(root, MappingNode) else ():
        if key.value == "fusions" and isinstance(value, MappingNode):
            return value
    raise _refusal(source, TOUCHING)


def _place(fusions: MappingNode, source: Path, name: str) -> int:
    """Number of the fusion among the entries. Raises InputError for a name that is not written as it is read."""
    found = next((number for number, (key, _) in enumerate(fusions.value) if key.value == name), None)
    if found is None:
        raise InputError(
            f"the lines of fusion {name!r} cannot be found in {source}: its name is read otherwise than it is written "
            "(such as `on` or 0x10), or it comes in by `<<`; write the name in quotes and the fusion out, or give the "
            "new fusion a name of its own with --name"
        )
    return found


def _span(text: str, source: Path, name: str) -> tuple[int, int] | None:
    """From where to where the fusion's own lines go; None where it shares them with others."""
    fusions = _fusions(text, source)
    pair = next((pair for pair in fusions.value if pair[0].value == name), None)
    if pair is None or fusions.flow_style:
        return None
    start = pair[0].start_mark
    return line_start(text, start.index), behind_comments(text, line_end(text, end_of(text, *pair)), start.column + 1)


def _edits(text: str, node: MappingNode, present: FusionSettings, wanted: FusionSettings) -> list[Edit]:
    """Changes of the fusion's own keys."""
    own = {key.value: (key, value) for key, value in node.value}
    merged = "<<" in own
    plain, was, edits = plain_settings(wanted), plain_settings(present), list[Edit]()
    before, after = present.model_dump(), wanted.model_dump()
    for name in after:
        if before[name] == after[name]:
            continue
        value = plain.get(name, _plain(after[name]))
        if name in own and not value and not merged and name not in plain:
            edits.append(_removal(text, node, name))
        elif name in own:
            edits.append(_replacement(text, *own[name], was.get(name), value))
        else:
            edits.append(_insertion(text, node, f"{name}: {rendered(value)}"))
    return edits


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _replacement(text: str, key: Node, value: Node, present: Any, wanted: Any) -> Edit:
    """A key's new value. Raises CannotEdit where it would take a comment with it."""
    end, is_alias = end_of(text, key, value), value.start_mark.index < key.end_mark.index
    holds_comments = not is_alias and bool(comments_in(text, value.start_mark.index, end, value))
    if isinstance(value, SequenceNode) and wanted and not is_alias and (holds_comments or not value.flow_style):
        was, now = _as_list(present), _as_list(wanted)
        try:
            if len(was) != len(value.value):
                raise CannotEdit("the list is not the panel that is read from it")
            if value.flow_style:
                return flow_list(text, value, was, now, lambda *item: _item_edits(text, *item), rendered)
            return block_list(text, key, value, was, now, lambda *item: _item_edits(text, *item), rendered)
        except CannotEdit:
            if comments_in(text, key.end_mark.index, end, value):
                raise
    elif holds_comments:
        raise CannotEdit(f"comments are within {key.value}")
    in_place = (
        not is_alias and end > value.start_mark.index and (not isinstance(value, SequenceNode) or value.flow_style)
    )
    begin = int(value.start_mark.index) if in_place else int(key.end_mark.index) + 1
    return begin, end, ("" if in_place else " ") + rendered(wanted)


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def _item_edits(text: str, node: Node, present: Any, wanted: Any) -> list[Edit]:
    """Of a seat that stays, with other settings; as a whole where no comment is within."""
    begin, end = int(node.start_mark.index), end_of(text, None, node)
    if not comments_in(text, begin, end, node):
        return [(begin, end, rendered(wanted))]
    if not isinstance(node, MappingNode):
        raise CannotEdit("a comment is within a member")
    own = {key.value: (key, value) for key, value in node.value}
    was, now, edits = _as_seat(present), _as_seat(wanted), list[Edit]()
    for name in dict.fromkeys([*was, *now]):
        if was.get(name) == now.get(name):
            continue
        if name in own:
            has = name in now
            edits.append(
                _replacement(text, *own[name], was.get(name), now[name]) if has else _removal(text, node, name)
            )
        else:
            edits.append(_insertion(text, node, f"{name}: {rendered(now[name])}"))
    return edits


def _as_seat(entry: Any) -> dict[str, Any]:
    return entry if isinstance(entry, dict) else {"model": entry}


def _removal(text: str, node: MappingNode, name: str) -> Edit:
    """Of a key with its value and what is said beside them. Raises CannotEdit where other comments are between."""
    place = next(number for number, (key, _) in enumerate(node.value) if key.value == name)
    key, value = node.value[place]
    begin, end = int(key.start_mark.index), end_of(text, key, value)
    first = line_start(text, begin)
    if not node.flow_style and not text[first:begin].strip():
        return first, line_end(text, end), ""
    if place and node.flow_style:
        before = end_of(text, *node.value[place - 1])
        if comments_in(text, before, begin):
            raise CannotEdit(f"comments are before {name}")
        return before, end, ""
    after = int(node.value[place + 1][0].start_mark.index) if place + 1 < len(node.value) else end
    if comments_in(text, end, after):
        raise CannotEdit(f"comments are behind {name}")
    return begin, after, ""


def _insertion(text: str, node: MappingNode, line: str) -> Edit:
    """After the fusion's first keys, where people look for it, and before comments that are of the next fusion."""
    pair = next((pair for pair in node.value if pair[0].value == "mode"), node.value[0])
    end = end_of(text, *pair)
    if node.flow_style:
        return end, end, f", {line}"
    place = line_end(text, end)
    return place, place, f"{' ' * node.value[0][0].start_mark.column}{line}\n"


def _addition(text: str, fusions: MappingNode, name: str, wanted: FusionSettings, comment: str) -> Edit:
    end = end_of(text, *fusions.value[-1])
    if fusions.flow_style:
        return end, end, f", {name}: {rendered(plain_settings(wanted))}"
    column = fusions.value[0][0].start_mark.column
    place, outer = behind_comments(text, line_end(text, end), column), " " * column
    lines = [f"{outer}# {comment} {MARK}", f"{outer}{rendered(name)}:"]
    lines += [f"{outer}  {key}: {rendered(value)}" for key, value in plain_settings(wanted).items()]
    return place, place, "\n" + "\n".join(lines) + "\n"


def _check(changed: str, source: Path, fusions: Mapping[str, FusionSettings], text: str, by_hand: str = "") -> None:
    """The new text says what was wanted, and of everything else what the old one says."""
    try:
        now, was = parse_config(changed, source), parse_config(text, source)
    except ConfigError:
        raise _refusal(source, TOUCHING, by_hand) from None
    others = (now.models, now.defaults, now.runtime, now.server) == (was.models, was.defaults, was.runtime, was.server)
    if not others or dict(now.fusions) != dict(fusions):
        raise _refusal(source, TOUCHING, by_hand)


def _by_hand(present: FusionSettings | None, wanted: FusionSettings) -> str:
    """What to write instead, in a sentence; empty where only the file of a table would make it whole."""
    if wanted.kinds is not None and (present is None or present.kinds != wanted.kinds):
        return ""
    after = plain_settings(wanted)
    before = plain_settings(present) if present is not None else {}
    lines = [f"{key}: {rendered(value)}" for key, value in after.items() if before.get(key) != value]
    lines += [f"no {key}" for key in before if key not in after]
    return f"write it in by hand ({'; '.join(lines)}), or "


def _refusal(source: Path, why: str, by_hand: str = "") -> InputError:
    return InputError(
        f"{source} is written in a way that cannot be edited without {why}; {by_hand}give the new fusion a name of its "
        "own with --name"
    )
