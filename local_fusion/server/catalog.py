"""Names that clients may ask for, and what stands behind each: fusions, the alias of the default, members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from local_fusion.config import Config
from local_fusion.errors import ConfigError, RequestError
from local_fusion.fusion.recipe import Recipe
from local_fusion.openai_api import FUSION_ALIAS
from local_fusion.runtime import checked_fusion, recipe_of


class Catalog:
    """The fusions and members that this server serves. `models`: every engine it needs, once."""

    def __init__(self, config: Config, fusions: Sequence[str] = ()) -> None:
        """`fusions`: None named means every fusion whose models are all here. Raises ConfigError."""
        self.config = config
        self.default = fusions[0] if fusions else config.default
        names = tuple(fusions) or tuple(dict.fromkeys([config.default, *_complete(config)]))
        self.recipes: dict[str, Recipe] = {name: recipe_of(config, name) for name in names}
        self.models = tuple(dict.fromkeys(m for recipe in self.recipes.values() for m in recipe.settings.models))

    def fusion(self, name: str | None) -> Recipe | None:
        """The fusion of that name; the default for None and the alias; None where there is none."""
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
        from local_fusion.fusion.recipe import make_recipe

        if not changes:
            return recipe
        try:
            settings = checked_fusion(recipe.settings, changes, recipe.name)
        except ConfigError as problem:
            raise RequestError(problem.message, "invalid_field", "fusion") from None
        for model in settings.models:
            if model not in self.models:
                raise RequestError(
                    f"no model called {model[:64]!r} is served here; GET /v1/models lists them",
                    "invalid_model",
                    "model",
                )
        return make_recipe(recipe.name, settings, self.config.models, prompts=recipe.prompts)


def _complete(config: Config) -> list[str]:
    return [
        name
        for name, settings in config.fusions.items()
        if all(config.missing(model) is None for model in settings.models)
    ]
