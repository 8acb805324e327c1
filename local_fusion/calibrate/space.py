"""What may be varied of a fusion: its models as candidates for every role, and settings put over its own. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from local_fusion.config.kinds import KindTable, changed_by
from local_fusion.config.schema import FusionSettings, MemberSettings, ModelSettings
from local_fusion.evaluate.plans import steady
from local_fusion.fusion.recipe import OF_NO_KIND, Recipe, make_recipe
from local_fusion.types import Sampling

MOST_SEATS = 8
MOST_ANSWERS = 26


@dataclass(frozen=True)
class Space:
    """A fusion and what it is made of. `base`: folder that paths of the configuration are relative to."""

    name: str
    present: FusionSettings
    models: Mapping[str, ModelSettings]
    base: Path | None = None

    @cached_property
    def own(self) -> Recipe:
        """The fusion as it stands, without what depends on the load of the machine."""
        return steady(make_recipe(self.name, self.present, self.models, self.base))

    @cached_property
    def pool(self) -> tuple[MemberSettings, ...]:
        """The panel, then judge and writers with one sample each: at most eight seats of 26 answers."""
        seats: dict[str, MemberSettings] = {}
        for member in self.present.panel:
            seats.setdefault(member.model, member)
        for model in self.present.models:
            seats.setdefault(model, MemberSettings(model=model))
        found, answers = [], 0
        for seat in list(seats.values())[:MOST_SEATS]:
            if answers + seat.samples <= MOST_ANSWERS:
                found.append(seat)
                answers += seat.samples
        return tuple(found)

    def seat(self, model: str, samples: int = 1, weight: float = 1.0) -> MemberSettings:
        """A model's seat with its own sampling."""
        known = next((seat for seat in self.pool if seat.model == model), MemberSettings(model=model))
        return known.model_copy(update={"samples": samples, "weight": weight})

    def but(self, over: FusionSettings | None = None, **changes: Any) -> FusionSettings:
        """`over` (None: the present settings, without its table of kinds) with changes, checked; the quorum stays one
        that can be met. Raises pydantic's ValidationError."""
        start = (over or self.present).model_dump() | ({} if over else {"kinds": None})
        settings = start | {key: _plain(value) for key, value in changes.items()}
        answers = sum(seat["samples"] for seat in settings["panel"])
        settings["quorum"] = min(settings["quorum"], answers)
        return FusionSettings.model_validate(settings)

    def temperature(self, seat: MemberSettings) -> float:
        """At which a seat is sampled; 0: it says the same each time."""
        return seat.sampling.over(self.models[seat.model].sampling.over(Sampling())).temperature

    def alone(self, model: str) -> FusionSettings:
        """One model as a panel of one."""
        return self.but(panel=[self.seat(model)], judge=model, writer=[model], mode="best-of", exit_confidence=None)

    def recipe(self, settings: FusionSettings, table: KindTable | None = None) -> Recipe:
        """Ready to run and steady; `table`: of kinds, which is not on the disk yet. Raises ConfigError."""
        bare = settings.model_copy(update={"kinds": None})
        recipe = make_recipe(self.name, bare, self.models, self.base, self.own.prompts)
        if table is None:
            return steady(recipe)
        by_kind = {kind.name: self.recipe(changed_by(kind, bare, f"fusion {self.name}")) for kind in table.kinds}
        if table.otherwise is not None:
            by_kind[OF_NO_KIND] = self.recipe(self.but(bare, **table.otherwise))
        return replace(steady(recipe), kinds=table, by_kind=by_kind)

    def as_it_would_be(self, settings: FusionSettings) -> Recipe:
        """`settings` with their own table of kinds, as they would be loaded; steady."""
        return steady(make_recipe(self.name, settings, self.models, self.base, self.own.prompts))


def names_of(panel: Sequence[MemberSettings]) -> str:
    """Members in words, with samples and weights where they are not 1."""
    told = []
    for seat in panel:
        extra = [f"{seat.samples} samples"] if seat.samples > 1 else []
        extra += [f"weight {seat.weight:g}"] if seat.weight != 1 else []
        told.append(f"{seat.model} ({', '.join(extra)})" if extra else seat.model)
    return ", ".join(told)


def _plain(value: Any) -> Any:
    if isinstance(value, MemberSettings):
        return value.model_dump()
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
