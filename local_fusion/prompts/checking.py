"""Reads template sets. Invariant: every mistake in a user's own set is found before the first row: what cannot be
rendered for a made-up brief, in each case that can occur, is a ConfigError that names file, line and key."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from jinja2 import Environment, TemplateError, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

from local_fusion.errors import ConfigError
from local_fusion.prompts.brief import Candidate
from local_fusion.types import Message

_TURN = Message("user", "What is 2 + 2?")
_ANSWERS = {"candidates": (Candidate("A", "It is 4.", 0), Candidate("B", "It is 5.", 1, cut=True)), "tag": "0000"}
_NO_ANSWERS = {"candidates": (), "tag": "0000"}
_SYSTEM = Message("system", "Be brief.")
CASES: dict[str, tuple[dict[str, Any], ...]] = {
    "system": ({"criteria": ""}, {"criteria": "safety first"}),
    "opening": tuple(
        {"request": request} | answers
        for request, answers in (((_TURN,), _ANSWERS), ((_SYSTEM, _TURN), _ANSWERS), ((), _NO_ANSWERS))
    ),
    "pick": ({},),
    "pair": ({"first": "A", "second": "B"},),
    "analyse": ({},),
    "repair": ({"problem": "it ends early"},),
    "write": ({"analysed": True}, {"analysed": False}),
    "guard": ({"label": "A", "swapped": True}, {"label": "A", "swapped": False}),
    "revise": (_ANSWERS, _NO_ANSWERS),
    "layer": (_ANSWERS, _NO_ANSWERS),
}
"""Per key of a set, the values that its template is given, in each case that can occur."""
KEYS = tuple(CASES)


def read_set(text: str, name: str) -> dict[str, str]:
    """Templates by key. Raises ConfigError where the file is not a mapping of known keys to texts."""
    data = _loaded(text, name)
    if not isinstance(data, dict):
        raise ConfigError(f"templates {name}: expected a mapping of {', '.join(KEYS)}")
    for key, value in data.items():
        if key not in CASES:
            raise ConfigError(f"templates {name}: unknown key {key!r}; known are {', '.join(KEYS)}")
        if not isinstance(value, str):
            raise ConfigError(f"templates {name}: {key} must be text")
    return data


def check_set(environment: Environment, text: str, templates: Mapping[str, str], name: str) -> None:
    """Compile and render every template of a set; `text`: the file they came from. Raises ConfigError."""
    lines = dict(_first_lines(text))
    for key, source in templates.items():
        problem = _mistake(environment, key, source)
        if problem is not None:
            line, told = problem
            raise ConfigError(f"templates {name}, line {lines.get(key, 1) + line - 1}: {key}: {told}")


def _mistake(environment: Environment, key: str, source: str) -> tuple[int, str] | None:
    """The first mistake of a template: its line there, counted from 1, and a sentence; None where it renders."""
    known = ", ".join(CASES[key][0]) or "none"
    try:
        strange = find_undeclared_variables(environment.parse(source))
        unknown = min(strange - set(CASES[key][0]) - set(environment.globals), default=None)
        if unknown is not None:
            line = next((place for place, said in enumerate(source.splitlines(), 1) if unknown in said), 1)
            return line, f"there is no variable {unknown!r}; known are {known}"
        template = environment.from_string(source)
        for case in CASES[key]:
            template.render(case)
    except TemplateSyntaxError as problem:
        return problem.lineno, f"{problem.message}; see the syntax of Jinja templates"
    except Exception as problem:  # a template may call and compute anything
        return _line_of(problem), f"it cannot be rendered: {_said(problem)}; known are {known}"
    return None


def _said(problem: Exception) -> str:
    return (problem.message if isinstance(problem, TemplateError) else str(problem)) or type(problem).__name__


def _line_of(problem: Exception) -> int:
    """Jinja puts the template's own line into the traceback."""
    frames = traceback.extract_tb(problem.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == "<template>" and frame.lineno), 1)


def _loaded(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise ConfigError(f"templates {name}: not YAML: {' '.join(str(problem).split())}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ConfigError(f"templates {name}: expected a mapping of {', '.join(KEYS)} to texts") from None


def _first_lines(text: str) -> Iterator[tuple[str, int]]:
    """Per key, the line of the file that its template begins in; a block (`|`, `>`) begins after its mark."""
    root = yaml.compose(text, yaml.SafeLoader)
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        yield key.value, value.start_mark.line + (2 if value.style in ("|", ">") else 1)
