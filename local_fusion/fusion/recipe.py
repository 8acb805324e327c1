"""A fusion made ready to run: settings with every default filled in, samplings resolved, templates loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from local_fusion.config.kinds import KindTable, changed_by, load_kinds, otherwise_by
from local_fusion.config.schema import FusionSettings, ModelSettings
from local_fusion.errors import ConfigError
from local_fusion.prompts import Brief, Candidate, PromptSet, load_prompts
from local_fusion.types import Message, Sampling

OF_NO_KIND = ""
"""Key in `Recipe.by_kind` of what is done with prompts of no kind; no kind can have this name."""


@dataclass(frozen=True)
class Seat:
    """A panel member with its resolved sampling."""

    model: str
    samples: int
    sampling: Sampling
    weight: float


@dataclass(frozen=True, slots=True)
class FrameBytes:
    """Bytes of a judge conversation beside its texts: at all, per turn of the request, per answer."""

    bare: int
    turn: int
    answer: int


@dataclass(frozen=True)
class Recipe:
    """What `fuse` needs beside the request and the engines."""

    name: str
    settings: FusionSettings
    seats: tuple[Seat, ...]
    judge: str
    writers: tuple[str, ...]
    judge_sampling: Sampling
    writer_sampling: Mapping[str, Sampling]
    prompts: PromptSet
    digests: Mapping[str, str]
    kinds: KindTable | None = None
    by_kind: Mapping[str, Recipe] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        """Answers the whole panel gives when nothing fails."""
        return sum(seat.samples for seat in self.seats)

    @cached_property
    def frame_bytes(self) -> FrameBytes:
        """How long the judge's conversations are around their texts, by this fusion's templates and criteria."""
        criteria, tag = self.settings.criteria, "0" * 8

        def size(turns: int, answers: int) -> int:
            request = tuple(Message("developer", "") for _ in range(turns))
            brief = Brief(request, tuple(Candidate("A", "", 0, cut=True) for _ in range(answers)), tag)
            return max(
                sum(len(turn.content.encode()) for turn in messages)
                for messages in (
                    self.prompts.guard(brief, "", "", "A", True, criteria),
                    self.prompts.guard(brief, "", "", "A", False, criteria),
                    self.prompts.pair(brief, "A", "B", criteria),
                )
            )

        return FrameBytes(size(0, 0), size(3, 0) - size(2, 0), size(0, 1) - size(0, 0))


def make_recipe(
    name: str,
    settings: FusionSettings,
    models: Mapping[str, ModelSettings],
    base: Path | None = None,
    prompts: PromptSet | None = None,
    asked: Collection[str] = (),
    table: KindTable | None = None,
) -> Recipe:
    """Resolve a fusion against its models; `base`: folder that paths are relative to; `prompts`: its template set where
    that is loaded already; `asked`: names of settings that somebody asks for beyond the file. Where the table of kinds
    decides one of these too, it is not consulted: what was asked for holds. `table`: that of its kinds where it
    is loaded already. Raises ConfigError."""

    def sampling(model: str) -> Sampling:
        return models[model].sampling.over(Sampling())

    seats = []
    for member in settings.panel:
        resolved = member.sampling.over(sampling(member.model))
        resolved = _capped(resolved, settings.max_panel_tokens)
        seats.append(Seat(member.model, member.samples, resolved, member.weight))
    judge = settings.judge_name
    prompts = prompts or load_prompts(settings.templates, base)
    return Recipe(
        name=name,
        settings=settings,
        seats=tuple(seats),
        judge=judge,
        writers=settings.writer_names,
        judge_sampling=_capped(settings.judge_sampling.over(sampling(judge)), settings.max_judge_tokens),
        writer_sampling={
            writer: _capped(settings.writer_sampling.over(sampling(writer)), settings.max_writer_tokens)
            for writer in settings.writer_names
        },
        prompts=prompts,
        digests={model: digest for model in settings.models if (digest := models[model].digest)},
        **_kinds(name, settings, models, base, asked, prompts, table),
    )


def _kinds(
    name: str,
    settings: FusionSettings,
    models: Mapping[str, ModelSettings],
    base: Path | None,
    asked: Collection[str],
    prompts: PromptSet,
    table: KindTable | None,
) -> dict[str, Any]:
    """The table of kinds and a recipe for each: the fusion with the kind's settings put over it."""

    def recipe(its: FusionSettings) -> Recipe:
        return make_recipe(name, its, models, base, prompts if its.templates == settings.templates else None)

    if settings.kinds is None or settings.mode != "auto":
        return {}
    table = table or load_kinds((base or Path()) / settings.kinds)
    decided = {key for changes in (*(kind.recipe for kind in table.kinds), table.otherwise or {}) for key in changes}
    if (decided - {"mode"}) & set(asked):  # another mode than auto was asked for: dealt with above
        return {}
    try:
        changed = {kind.name: changed_by(kind, settings, f"fusion {name}") for kind in table.kinds}
        otherwise = otherwise_by(table, settings, f"fusion {name}")
    except ConfigError:
        if asked:  # the table is of the fusion as it stands in the file, and does not fit what it was made into
            return {}
        raise
    recipes = {kind: recipe(its) for kind, its in changed.items()}
    if otherwise is not None:
        recipes[OF_NO_KIND] = recipe(otherwise)
    return {"kinds": table, "by_kind": recipes}


def _capped(sampling: Sampling, tokens: int | None) -> Sampling:
    return sampling if tokens is None else replace(sampling, max_tokens=min(tokens, sampling.max_tokens))
