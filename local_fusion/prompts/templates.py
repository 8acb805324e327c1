"""Template sets: YAML files of Jinja strings, and the message lists made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

from local_fusion.errors import ConfigError
from local_fusion.prompts.brief import Brief
from local_fusion.prompts.checking import KEYS, check_set, read_set
from local_fusion.types import Message

SHIPPED = ("default", "short")
_CRITERIA_KEPT = 16
_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@dataclass(frozen=True)
class PromptSet:
    """One template set. Every method returns OpenAI-style turns that alternate user and assistant."""

    name: str
    sources: dict[str, str]

    @cached_property
    def digest(self) -> str:
        """sha256 of all templates, for receipts."""
        joined = "\0".join(f"{key}\0{self.sources[key]}" for key in KEYS)
        return hashlib.sha256(joined.encode()).hexdigest()[:16]

    @cached_property
    def _templates(self) -> dict[str, Template]:
        return {key: _template(self.sources[key]) for key in KEYS}

    def _render(self, key: str, **values: Any) -> str:
        return self._templates[key].render(**values).strip("\n")

    @cached_property
    def _phrases(self) -> dict[tuple[object, ...], str]:
        return {}

    def _phrase(self, key: str, **values: str | bool) -> str:
        """As `_render`, remembered: for texts that hold nothing of a request, letters excepted."""
        place = (key, *values.values())
        if place not in self._phrases:
            self._phrases[place] = self._render(key, **values)
        return self._phrases[place]

    @cached_property
    def _system(self) -> Callable[[str], str]:
        """The system text by criteria. A request may bring its own, so that only the last few are remembered."""
        return lru_cache(_CRITERIA_KEPT)(lambda criteria: self._render("system", criteria=criteria))

    def _opening(self, brief: Brief, instruction: str, criteria: str) -> tuple[Message, ...]:
        source = self.sources["opening"]
        shown = brief.rendered.get(source)
        if shown is None:
            shown = self._render("opening", request=brief.request, candidates=brief.candidates, tag=brief.tag)
            brief.rendered[source] = shown
        return (Message("system", self._system(criteria)), Message("user", f"{shown}\n\n{instruction}"))

    def pick(self, brief: Brief, criteria: str = "") -> tuple[Message, ...]:
        """Asks for the letter of the best candidate; the next token is a label of `brief.labels`."""
        return self._opening(brief, self._phrase("pick"), criteria)

    def pair(self, brief: Brief, first: str, second: str, criteria: str = "") -> tuple[Message, ...]:
        """Asks which of two candidates (letters) is better; the next token is one of the two letters."""
        return self._opening(brief, self._phrase("pair", first=first, second=second), criteria)

    def analyse(self, brief: Brief, criteria: str = "") -> tuple[Message, ...]:
        """Asks for the five lists as JSON."""
        return self._opening(brief, self._phrase("analyse"), criteria)

    def repair(self, brief: Brief, broken: str, problem: str, criteria: str = "") -> tuple[Message, ...]:
        """Asks once more, after an analysis that could not be read."""
        turns = (Message("assistant", broken), Message("user", self._render("repair", problem=problem)))
        return self.analyse(brief, criteria) + turns

    def write(self, brief: Brief, analysis: str | None, criteria: str = "") -> tuple[Message, ...]:
        """Asks for the final answer: after the analysis (the judge's JSON text), or from the raw answers (None)."""
        instruction = self._phrase("write", analysed=analysis is not None)
        if analysis is None:
            return self._opening(brief, instruction, criteria)
        return (*self.analyse(brief, criteria), Message("assistant", analysis), Message("user", instruction))

    def guard(
        self, brief: Brief, analysis: str | None, written: str, label: str, swapped: bool, criteria: str = ""
    ) -> tuple[Message, ...]:
        """Asks whether the written text or candidate `label` is better; the next token is "1" or "2".

        `swapped` False: 1 is the written text. True: 2 is the written text.
        """
        instruction = self._phrase("guard", label=label, swapped=swapped)
        turns = self.write(brief, analysis, criteria)
        return (*turns, Message("assistant", written), Message("user", instruction))

    def revise(self, request: Sequence[Message], own: str, brief: Brief) -> tuple[Message, ...]:
        """For a panel member: its own answer, then the others' (the brief), then leave to change with a reason."""
        instruction = self._render("revise", candidates=brief.candidates, tag=brief.tag)
        return (*request, Message("assistant", own), Message("user", instruction))

    def layer(self, request: Sequence[Message], brief: Brief) -> tuple[Message, ...]:
        """For a panel member of a later layer: the request, with others' answers as references in the user's last turn,
        or in a turn of their own where another's is the last: a tool's result must not hold what a member said."""
        last = request[-1]
        text = self._render("layer", candidates=brief.candidates, tag=brief.tag)
        if last.role != "user":
            return (*request, Message("user", text))
        return (*request[:-1], Message(last.role, f"{last.content}\n\n{text}", name=last.name))


def _template(source: str) -> Template:
    """With its globals in one plain dict: each rendering copies them, and a chain of maps copies slowly."""
    template = _ENVIRONMENT.from_string(source)
    template.globals = dict(template.globals)
    return template


def load_prompts(name: str, base: Path | None = None) -> PromptSet:
    """Load a shipped set by name, or a YAML file by path (relative to `base`). Missing keys come from `default`.

    Raises ConfigError naming file, line and key of what cannot be read or rendered.
    """
    shipped = read_set(resources.files(__package__).joinpath("default.yaml").read_text("utf-8"), "default")
    if name == "default":
        return PromptSet(name, shipped)
    if name in SHIPPED:
        text = resources.files(__package__).joinpath(f"{name}.yaml").read_text("utf-8")
        return PromptSet(name, shipped | read_set(text, name))
    path = (base or Path.cwd()) / name
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8"
        raise ConfigError(
            f"templates: cannot read {path} ({reason}); give one of {', '.join(SHIPPED)} or the path of a YAML file"
        ) from None
    own = read_set(text, str(path))
    check_set(_ENVIRONMENT, text, own, str(path))
    return PromptSet(str(path), shipped | own)
