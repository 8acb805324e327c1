"""Edits one fusion in the text of a `models.yaml`: comments, order, anchors, quotes and indents of all else are kept.

The text is read by ruamel.yaml for the places of its nodes, and only the spans that change are written anew. Invariant:
whatever comes of an edit is read again, and refused unless it says exactly what was wanted and nothing else changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from local_fusion.config import parse_config
from local_fusion.config.schema import FusionSettings
from local_fusion.errors import ConfigError, InputError

_ALIAS = re.compile(r"\s*:\s*(\*[^\s,\]}]+)")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
MARK = "(local-fusion calibrate)"

Edit = tuple[int, int, str]


def edited(text: str, source: Path, name: str, wanted: FusionSettings, comment: str = "") -> str:
    """The text with the fusion `name` as `wanted`; a new one is added as the last, under a comment.

    Raises InputError where the text is written in a way that cannot be edited so.
    """
    before = parse_config(text, source)
    fusions = _fusions(text, source)
    if name not in before.fusions:
        changed = _spliced(text, [_addition(text, fusions, name, wanted, comment)])
    else:
        node = next(value for key, value in fusions.value if key.value == name)
        edits = _edits(text, node, before.fusions[name], wanted) if isinstance(node, MappingNode) else []
        changed = _spliced(text, edits)
    _check(changed, source, {**before.fusions, name: wanted}, text)
    return changed


def without(text: str, source: Path, name: str) -> str:
    """The text without the fusion `name` and the comment that was put over it. Raises InputError, or ConfigError where
    something else names it."""
    before = parse_config(text, source)
    fusions = _fusions(text, source)
    pairs = fusions.value
    place = next(number for number, (key, _) in enumerate(pairs) if key.value == name)
    key, value = pairs[place]
    if fusions.flow_style:
        begin = _end(text, *pairs[place - 1]) if place else key.start_mark.index
        changed = _spliced(text, [(begin, _end(text, key, value), "")])
    else:
        begin = _line_start(text, key.start_mark.index)
        while MARK in (above := text[_line_start(text, begin - 1) : begin]) or not above.strip():
            if begin == 0:
                break
            begin = _line_start(text, begin - 1)
        changed = _spliced(text, [(begin, _line_end(text, _end(text, key, value)), "")])
    parse_config(changed, source)
    _check(changed, source, {other: one for other, one in before.fusions.items() if other != name}, text)
    return changed


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
        raise _refusal(source) from None
    for key, value in root.value if isinstance(root, MappingNode) else ():
        if key.value == "fusions" and isinstance(value, MappingNode):
            return value
    raise _refusal(source)


def _edits(text: str, node: MappingNode, present: FusionSettings, wanted: FusionSettings) -> list[Edit]:
    """Changes of the fusion's own keys."""
    own = {key.value: (key, value) for key, value in node.value}
    merged = "<<" in own
    plain, edits = plain_settings(wanted), list[Edit]()
    before, after = present.model_dump(), wanted.model_dump()
    for name in after:
        if before[name] == after[name]:
            continue
        value = plain.get(name, _plain(after[name]))
        if name in own and not value and not merged and name not in plain:
            edits.append(_removal(text, node, name))
        elif name in own:
            edits += _replacement(text, *own[name], value)
        else:
            edits.append(_insertion(text, node, f"{name}: {rendered(value)}"))
    return edits


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _replacement(text: str, key: Node, value: Node, wanted: Any) -> list[Edit]:
    if isinstance(value, SequenceNode) and not value.flow_style and isinstance(wanted, list) and wanted:
        kept = _items(text, value, wanted)
        if kept is not None:
            return kept
    begin = key.end_mark.index + 1
    return [(begin, _end(text, key, value), f" {rendered(wanted)}")]


def _items(text: str, value: SequenceNode, wanted: list[Any]) -> list[Edit] | None:
    """A block list item by item, so that comments of those that stay do too; None where the order changes."""
    names = [_model_of(entry) for entry in wanted]
    there = [_model_of(_data(item)) for item in value.value]
    if [name for name in there if name in names] != [name for name in names if name in there]:
        return None
    new = [name for name in names if name not in there]
    if names[: len(names) - len(new)] != [name for name in names if name in there] or len(new) == len(names):
        return None
    edits, last = list[Edit](), 0
    for item, name in zip(value.value, there, strict=True):
        begin, end = item.start_mark.index, _end(text, None, item)
        last = _line_end(text, end)
        if name not in names:
            edits.append((_line_start(text, begin), last, ""))
        elif _data(item) != (entry := wanted[names.index(name)]):
            edits.append((begin, end, rendered(entry)))
    indent = " " * (value.start_mark.column)
    added = "".join(f"{indent}- {rendered(entry)}\n" for entry in wanted[len(names) - len(new) :])
    return [*edits, (last, last, added)] if added else edits


def _model_of(entry: Any) -> Any:
    return entry.get("model") if isinstance(entry, dict) else entry


def _data(node: Node) -> Any:
    """A node as plain data."""
    if isinstance(node, MappingNode):
        return {key.value: _data(value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [_data(item) for item in node.value]
    is_plain = isinstance(node, ScalarNode) and node.style is None
    return YAML(typ="safe", pure=True).load(node.value) if is_plain else node.value


def _removal(text: str, node: MappingNode, name: str) -> Edit:
    place = next(number for number, (key, _) in enumerate(node.value) if key.value == name)
    key, value = node.value[place]
    if not node.flow_style:
        return _line_start(text, key.start_mark.index), _line_end(text, _end(text, key, value)), ""
    if place:
        return _end(text, *node.value[place - 1]), _end(text, key, value), ""
    after = node.value[1][0].start_mark.index if len(node.value) > 1 else _end(text, key, value)
    return key.start_mark.index, after, ""


def _insertion(text: str, node: MappingNode, line: str) -> Edit:
    """After the fusion's first keys, where people look for it, and before comments that are of the next fusion."""
    pair = next((pair for pair in node.value if pair[0].value == "mode"), node.value[0])
    end = _end(text, *pair)
    if node.flow_style:
        return end, end, f", {line}"
    place = _line_end(text, end)
    return place, place, f"{' ' * node.value[0][0].start_mark.column}{line}\n"


def _addition(text: str, fusions: MappingNode, name: str, wanted: FusionSettings, comment: str) -> Edit:
    end = _end(text, *fusions.value[-1])
    if fusions.flow_style:
        return end, end, f", {name}: {rendered(plain_settings(wanted))}"
    place, outer = _line_end(text, end), " " * fusions.value[0][0].start_mark.column
    lines = [f"{outer}# {comment} {MARK}", f"{outer}{rendered(name)}:"]
    lines += [f"{outer}  {key}: {rendered(value)}" for key, value in plain_settings(wanted).items()]
    return place, place, "\n" + "\n".join(lines) + "\n"


def _end(text: str, key: Node | None, value: Node) -> int:
    """Where a value's own text ends; blank lines and comments after a block are not its own."""
    if key is not None and value.start_mark.index < key.end_mark.index:
        alias = _ALIAS.match(text, key.end_mark.index)
        return alias.end() if alias else key.end_mark.index
    if isinstance(value, MappingNode) and not value.flow_style and value.value:
        return _end(text, *value.value[-1])
    if isinstance(value, SequenceNode) and not value.flow_style and value.value:
        return _end(text, None, value.value[-1])
    begin, end = int(value.start_mark.index), int(value.end_mark.index)
    return begin + len(text[begin:end].rstrip())


def _line_start(text: str, place: int) -> int:
    return text.rfind("\n", 0, max(0, place)) + 1


def _line_end(text: str, place: int) -> int:
    """Just behind the line's end."""
    found = text.find("\n", place)
    return len(text) if found < 0 else found + 1


def _spliced(text: str, edits: Sequence[Edit]) -> str:
    for begin, end, new in reversed(sorted(edits, key=lambda edit: edit[:2])):  # noqa: C413 (keeps the order of equals)
        lead = "\n" if begin == len(text) and text and not text.endswith("\n") and "\n" in new else ""
        text = text[:begin] + lead + new + text[end:]
    return text


def _check(changed: str, source: Path, fusions: Mapping[str, FusionSettings], text: str) -> None:
    """The new text says what was wanted, and of everything else what the old one says."""
    try:
        now, was = parse_config(changed, source), parse_config(text, source)
    except ConfigError:
        raise _refusal(source) from None
    others = (now.models, now.defaults, now.runtime, now.server) == (was.models, was.defaults, was.runtime, was.server)
    if not others or dict(now.fusions) != dict(fusions):
        raise _refusal(source)


def _refusal(source: Path) -> InputError:
    return InputError(
        f"{source} is written in a way that cannot be edited without touching the rest (anchors inside the fusion?); "
        "give the new fusion a name of its own with --name, or write its settings in by hand: they are in the evidence"
    )
