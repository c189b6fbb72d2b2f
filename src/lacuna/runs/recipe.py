"""The recipe: the part of a config that decides the numbers of a run; its hash is the run's identity.

It holds data, mask, components, networks, optimisation, budget, precision and seed, but no devices, paths, loggers or
progress bars. What must be trained first is a recipe of its own, nested under ``prerequisites``.
Nothing here imports torch, so that planning is instant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lacuna.papers import PUBLISHED, UNPUBLISHED
from lacuna.runs.budget import MEASURED

VERSION = 3
"""Raised when the same recipe would give other numbers, so that old runs are not mistaken for new ones."""

PLACES = ("path",)
"""Keys of ``data`` that say where a user's own images lie; they are no part of the identity."""
PARTS = {"density": "density", "flow": "flow", "impute": "imputer"}
"""Task -> the key of the component that it trains."""
FEATURES = "features"
"""The prerequisite that judges images. Its ``run`` says how it is trained (task, net, stem); its seed is always 0."""
BEHIND_A_STEM = ("classify", "generate")
"""Tasks that train a net behind a stem."""
WHOLE_BUDGETS = (PUBLISHED, UNPUBLISHED)
"""Budget labels of recipes that leave nothing out; they are not part of a run's name."""


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe.

    Args:
        config: plain JSON.
    """

    config: Mapping[str, Any]

    @cached_property
    def identity(self) -> str:
        """12 hexadecimal digits: equal recipes, equal identity."""
        text = json.dumps(_without_places(self.config), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def portable(self) -> dict[str, Any]:
        """The config without the paths of a user's own images; its identity is the same."""
        return _without_places(self.config)

    @property
    def task(self) -> str:
        """``classify``, ``density``, ..."""
        return str(self.config["task"]["name"])

    @property
    def component(self) -> str:
        """Key of what this run makes, which has a ``training`` if it is trained."""
        return "net" if self.task in BEHIND_A_STEM else PARTS.get(self.task, self.task)

    @property
    def measured(self) -> bool:
        """Whether this run measures (times, say) and trains nothing."""
        return self.task in MEASURED

    @property
    def group(self) -> str:
        """Data, mask and method, as text for people: equal for repetitions with other seeds."""
        method = self.config["stem"] if "stem" in self.config else self.config[self.component]
        if self.measured:
            parts = [self.task, *(f"{key}{method[key]}" for key in MEASURED[self.task])]
        else:
            parts = [self.config["data"]["name"], self.config["mask"]["name"], method["name"]]
            if self.task == "generate" or method["name"] == "image":  # a classifier is called after its stem
                parts.append(self.config["net"]["name"])
        if self.config["budget"] not in WHOLE_BUDGETS:
            parts.append(self.config["budget"])
        return "-".join(parts)

    @property
    def family(self) -> str:
        """6 hexadecimal digits, equal for recipes that differ in the seed only."""
        text = json.dumps(_without_seed(_without_places(self.config)), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:6]

    @cached_property
    def name(self) -> str:
        """Name of the run's directory."""
        return f"{self.group}-s{self.config['seed']}-{self.identity}"

    @cached_property
    def prerequisites(self) -> dict[str, Recipe]:
        """The runs whose models this one uses, by component."""
        return {component: Recipe(recipe) for component, recipe in self.config.get("prerequisites", {}).items()}

    def graph(self) -> Iterator[Recipe]:
        """This recipe, then its prerequisites and theirs, each once."""
        found: dict[str, Recipe] = {}
        queue = [self]
        while queue:
            recipe = queue.pop(0)
            found.setdefault(recipe.identity, recipe)
            queue = [*recipe.prerequisites.values(), *queue]
        yield from found.values()

    @property
    def training(self) -> Mapping[str, Any]:
        """Epochs, batch size, learning rate, ... of what this run trains; empty if it trains nothing."""
        training: Mapping[str, Any] = self.config[self.component].get("training", {})
        return training

    def with_seed(self, seed: int) -> Recipe:
        """The same with another seed, in all its prerequisites, too."""
        return Recipe(_seeded(self.config, seed))


def _without_places(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without the paths of a user's own images: their fingerprint says which they are."""
    data = {key: value for key, value in recipe["data"].items() if key not in PLACES}
    found = {**recipe, "data": data}
    if "prerequisites" in recipe:
        prerequisites = recipe["prerequisites"].items()
        found["prerequisites"] = {component: _without_places(nested) for component, nested in prerequisites}
    return found


def _without_seed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    prerequisites = {
        component: nested if component == FEATURES else _without_seed(nested)
        for component, nested in recipe.get("prerequisites", {}).items()
    }
    return {key: value for key, value in recipe.items() if key != "seed"} | {"prerequisites": prerequisites}


def _seeded(recipe: Mapping[str, Any], seed: int) -> dict[str, Any]:
    found = {**recipe, "seed": seed}
    if "prerequisites" in recipe:
        found["prerequisites"] = {
            component: nested if component == FEATURES else _seeded(nested, seed)
            for component, nested in recipe["prerequisites"].items()
        }
    return found
