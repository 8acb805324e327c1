"""Names that clients may ask for, and what stands behind each: fusions, the alias of the default, members."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from local_fusion.config import Config, FusionSettings
from local_fusion.config.kinds import KindTable, load_kinds
from local_fusion.errors import ConfigError, RequestError
from local_fusion.fusion.recipe import Recipe, make_recipe
from local_fusion.openai_api import FUSION_ALIAS
from local_fusion.openai_api.request import FLASH_ALIAS, FLASH_PRESET
from local_fusion.runtime import checked_fusion, recipe_of


class Catalog:
    """The fusions and members that this server serves. `models`: every engine it needs, once."""

    def __init__(self, config: Config, fusions: Sequence[str] = ()) -> None:
        """`fusions`: None named means every fusion whose models are all here. Raises ConfigError."""
        self.config = config
        self.default = fusions[0] if fusions else config.default
        names = tuple(fusions) or tuple(dict.fromkeys([config.default, *_complete(config)]))
        self.recipes: dict[str, Recipe] = {name: recipe_of(config, name) for name in names}
        self._base = config.source.parent if config.source else None
        self._tables = {
            one.settings.kinds: one.kinds for one in self.recipes.values() if one.settings.kinds and one.kinds
        }
        self.models = tuple(dict.fromkeys(m for recipe in self.recipes.values() for m in recipe.settings.models))

    def fusion(self, name: str | None) -> Recipe | None:
        """The fusion of that name; those behind the aliases, the default for None; None where there is none."""
        if name == FLASH_ALIAS:
            return self.recipes.get(FLASH_PRESET)
        return self.recipes.get(self.default if name in (None, FUSION_ALIAS) else str(name))

    def is_member(self, name: str) -> bool:
        return name in self.models and name not in self.recipes

    def names(self) -> tuple[str, ...]:
        """Everything a client may name as `model`."""
        members = [model for model in self.models if model not in self.recipes]
        return (*self.recipes, FUSION_ALIAS, *members)

    def changed(self, recipe: Recipe, changes: dict[str, Any]) -> Recipe:
        """`recipe` with settings put over its own, templates excepted.

        Raises RequestError where they do not fit, or name a model that is not served."""
        if not changes:
            return recipe
        try:
            settings = checked_fusion(recipe.settings, changes, recipe.name)
            self._check_served(settings)
            return make_recipe(
                recipe.name, settings, self.config.models, self._base, recipe.prompts, changes, self._table(settings)
            )
        except ConfigError as problem:
            raise RequestError(problem.message, "invalid_field", "fusion") from None

    def _table(self, settings: FusionSettings) -> KindTable | None:
        """The table of kinds that these settings consult: read once, not at each request."""
        if settings.kinds is None or settings.mode != "auto":
            return None
        if settings.kinds not in self._tables:
            self._tables[settings.kinds] = load_kinds((self._base or Path()) / settings.kinds)
        return self._tables[settings.kinds]

    def _check_served(self, settings: FusionSettings) -> None:
        for model in settings.models:
            if model not in self.models:
                raise RequestError(
                    f"no model called {model[:64]!r} is served here; GET /v1/models lists them",
                    "invalid_model",
                    "model",
                )


def _complete(config: Config) -> list[str]:
    return [
        name
        for name, settings in config.fusions.items()
        if all(config.missing(model) is None for model in settings.models)
    ]
