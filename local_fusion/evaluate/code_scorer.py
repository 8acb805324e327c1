"""Grades code by running it against its tests in the sandbox: HumanEval's `check(candidate)`.

What an answer gives is read from its fenced blocks, line by line: the last block in Python, or in no named language,
that defines the function, and in front what earlier ones have for it: helpers, imports.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import os
import re
import symtable
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from local_fusion.evaluate.items import Grade, Item
from local_fusion.evaluate.sandbox import Limits, run_python

_FENCE = re.compile(r"(?P<before>[^`~]*)(?P<marks>`{3,}|~{3,})(?P<language>[^`]*)")
_PLACE = re.compile(r"[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?")
_PYTHON = re.compile(r"\{?\.?(?:python|py)[\d.]*(?![\w-])", re.IGNORECASE)
_FUTURE = re.compile(r"^from __future__ import [^(\n]*\n", re.MULTILINE)
_SHOWING = (ast.Expr, ast.Assert, ast.For, ast.While, ast.With, ast.Raise, ast.Delete)


class CodeScorer:
    """Runs as many programs at once as there are processors."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._places = asyncio.Semaphore(max(1, len(os.sched_getaffinity(0))))

    async def grade(self, item: Item, text: str) -> Grade:
        """1 where every test passes (pass@1), else 0."""
        async with self._places:
            outcome = await run_python(program_of(item, text), self._limits)
        return Grade(float(outcome.passed), outcome.detail)


def program_of(item: Item, text: str) -> str:
    """What the prompt has before the function, the function as the answer gives it, the tests."""
    prompt, entry = str(item.details.get("prompt", "")), str(item.details["entry_point"])
    code, definition = code_of(text, entry), _definition(entry)
    if definition.search(code):
        starts = [found.start() for found in definition.finditer(prompt)]
        before = prompt[: starts[-1]] if starts else ""
    else:
        before = prompt if prompt.endswith("\n") or not prompt else prompt + "\n"
    program = f"{before}{code}\n\n{item.expected}\n\ncheck({entry})\n"
    return "".join(_FUTURE.findall(program)) + _FUTURE.sub("", program)


def code_of(text: str, entry: str) -> str:
    """The last fenced block that defines `entry`, with what it needs of earlier ones; else the first block, else the
    text as it is."""
    blocks, definition = _blocks(text), _definition(entry)
    defining = [place for place, block in enumerate(blocks) if definition.search(block)]
    if defining:
        return _with_needed(blocks[: defining[-1]], blocks[defining[-1]])
    return blocks[0] if blocks else text


def _definition(entry: str) -> re.Pattern[str]:
    return re.compile(rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{re.escape(entry)}[ \t]*[(\[]", re.MULTILINE)


@dataclass(slots=True)
class _Block:
    """A fenced block: what stands before its fence as white space, the fence's marks, and the lines inside."""

    indent: str
    marks: str
    language: str
    lines: list[str] = field(default_factory=list)

    @property
    def python(self) -> bool:
        """It says so itself."""
        return _PYTHON.match(self.language) is not None

    @property
    def kept(self) -> bool:
        """In Python, or in no named language."""
        return self.python or not self.language

    def ended_by(self, line: str) -> bool:
        """A fence of as many marks or more, and no deeper than Markdown allows: deeper ones are in a docstring."""
        marks, deep = line.strip(), len(line) - len(line.lstrip())
        return len(marks) >= len(self.marks) and not marks.strip(self.marks[0]) and deep < len(self.indent) + 4

    def code(self) -> str:
        """The lines without the fence's indent, where the first of them has it."""
        first = next((line for line in self.lines if line.strip()), "")
        indent = self.indent if first.startswith(self.indent) else ""
        return "\n".join(line.removeprefix(indent) for line in self.lines)


def _blocks(text: str) -> list[str]:
    """The code of every block that is kept. The last may lack its end; blocks in Python are found in one of another
    language too, whose end may be missing."""
    found: list[_Block] = []
    block: _Block | None = None
    for line in text.replace("\r\n", "\n").split("\n"):
        if block is not None and block.ended_by(line):
            block = None
        elif (begun := _begun_by(line)) and (block is None or (begun.python and not block.kept)):
            block = begun
            found.append(block)
        elif block is not None:
            block.lines.append(line)
    return [code for block in found if block.kept and (code := block.code()).strip()]


def _begun_by(line: str) -> _Block | None:
    """A block begins with its line, or as a point of a list, or behind other words where it is said to be Python."""
    fence = _FENCE.fullmatch(line)
    if fence is None:
        return None
    block = _Block(re.sub(r"\S", " ", fence["before"]), fence["marks"], fence["language"].strip())
    return block if block.python or _PLACE.fullmatch(fence["before"]) else None


def _with_needed(earlier: Sequence[str], code: str) -> str:
    """`code`, and in front the definitions of those earlier blocks that give names it lacks."""
    read = _read(code) if earlier else None
    if read is None:
        return code
    parts, given, used = [code], set(read.gives), set(read.uses)
    for block in reversed(earlier):
        other, lacking = _read(block), used - given
        if other is not None and (other.gives & lacking or (other.all_of and lacking)):
            parts.append(other.definitions)
            given |= other.gives
            used |= other.uses
    return "\n\n".join(reversed(parts))


@dataclass(frozen=True, slots=True)
class _Read:
    """A block as Python reads it: the names that its top level gives, those it uses as global and Python has not,
    whether it takes all of another module, and its code without what shows how it is used (calls, asserts, loops)."""

    gives: frozenset[str]
    uses: frozenset[str]
    all_of: bool
    definitions: str


def _read(code: str) -> _Read | None:
    """None where it is no Python, or too deep to be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            body, top = ast.parse(code).body, symtable.symtable(code, "answer", "exec")
            definitions = ast.unparse(ast.Module([one for one in body if not isinstance(one, _SHOWING)], []))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    return _Read(
        frozenset(one.get_name() for one in top.get_symbols() if one.is_assigned() or one.is_imported()),
        frozenset(_used(top)) - frozenset(dir(builtins)),
        any(isinstance(one, ast.ImportFrom) and one.names[0].name == "*" for one in body),
        definitions,
    )


def _used(top: symtable.SymbolTable) -> Iterator[str]:
    tables = [top]
    while tables:
        table = tables.pop()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table is top or symbol.is_global()):
                yield symbol.get_name()
        tables += table.get_children()
