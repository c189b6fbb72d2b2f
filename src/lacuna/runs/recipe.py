"""The recipe: the part of a configuration that decides the numbers, and by its hash the identity of a run.

Data, mask, parts, networks, optimisation, budget, precision and seed are in it; devices, paths, loggers and progress
bars are not. What must be trained first is a recipe of its own, derived from the same configuration and nested under
``prerequisites``. Nothing here imports torch, so that planning is instant.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lacuna.data.prepared import PreparedData
from lacuna.errors import LacunaError
from lacuna.papers import CHANGED, PUBLISHED, UNPUBLISHED
from lacuna.runs.budget import (
    INFRASTRUCTURE,
    LIMITS,
    MEASURED,
    VALIDATION,
    budget_label,
    budget_share,
    source_of,
    validation_images,
    within,
)

VERSION = 3
"""Raised when the same recipe would give other numbers, so that old runs are not mistaken for new ones."""

PLACES = ("path",)
NO_MASK = {"name": "none", "type": "masks.NoMask", "seed": 0}
TRAINED = {
    "density": {"name": "density", "type": "dmfa.TrainDMFA"},
    "flow": {"name": "flow", "type": "acflow.TrainACFlow"},
}
"""Parts that are trained as a run of their own -> the task that trains them (``configs/task/``), unless the part names
another one with its key ``task``."""
PARTS = {"density": "density", "flow": "flow", "impute": "imputer"}
"""Tasks that make a part of the recipe -> its key."""
FEATURES = "features"
"""The part that judges others: its ``run`` says how it is trained (task, net, stem), with seed 0 for everybody."""
BEHIND_A_STEM = ("classify", "generate")
"""Tasks that train a net behind a stem."""
JUDGED_BY_FEATURES = ("generate", "impute")
"""Tasks that a feature net judges, unless there is none."""
WHOLE_BUDGETS = (PUBLISHED, UNPUBLISHED)
"""Labels of recipes that leave nothing out; they are not part of a run's name."""
MADE_UP = {"name": "random", "fingerprint": "random"}
"""What stands for data where random numbers do."""


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe; ``config`` is plain JSON."""

    config: Mapping[str, Any]

    @cached_property
    def identity(self) -> str:
        """12 hexadecimal digits: equal recipes, equal identity."""
        text = json.dumps(_without_places(self.config), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def portable(self) -> dict[str, Any]:
        """The recipe without where a user's own images lie on this machine; the same identity."""
        return _without_places(self.config)

    @property
    def task(self) -> str:
        """``classify``, ``density``, ..."""
        return str(self.config["task"]["name"])

    @property
    def component(self) -> str:
        """The key of the recipe that holds what this run makes, with its ``training`` if it is trained."""
        return "net" if self.task in BEHIND_A_STEM else PARTS.get(self.task, self.task)

    @property
    def measured(self) -> bool:
        """Whether something is measured in this run and nothing is trained."""
        return self.task in MEASURED

    @property
    def group(self) -> str:
        """What repetitions with other seeds have in common, for people: data, mask and method."""
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
        """6 hexadecimal digits: equal for recipes that differ in nothing but the seed."""
        text = json.dumps(_without_seed(_without_places(self.config)), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:6]

    @cached_property
    def name(self) -> str:
        """Name of the run's directory."""
        return f"{self.group}-s{self.config['seed']}-{self.identity}"

    @cached_property
    def prerequisites(self) -> dict[str, Recipe]:
        """The runs whose results this one builds on, by part."""
        return {part: Recipe(recipe) for part, recipe in self.config.get("prerequisites", {}).items()}

    @property
    def training(self) -> Mapping[str, Any]:
        """Epochs, batch size, learning rate, ... of what this run trains; empty if it trains nothing."""
        training: Mapping[str, Any] = self.config[self.component].get("training", {})
        return training

    def with_seed(self, seed: int) -> Recipe:
        """The same with another seed, also in everything it needs."""
        return Recipe(_seeded(self.config, seed))


def resolve(config: Mapping[str, Any], fingerprint: str) -> Recipe:
    """The recipe of a composed configuration.

    Args:
        config: the resolved config of ``train.py``, as plain values.
        fingerprint: of the prepared data, so that a sample is never mistaken for the complete set.

    Raises:
        LacunaError: a part that is needed is missing from the configuration.
    """
    config = copy.deepcopy(dict(config))
    task = config["task"]["name"]
    budget = config["budget"]
    for name, seed in (("seed", config["seed"]), ("mask.seed", config["mask"].get("seed", 0))):
        if not isinstance(seed, int):
            raise LacunaError(f"{name}={seed} must be a whole number.")
    if task not in budget:
        raise LacunaError(f"task.name={task}: budget={budget['name']} does not know this task; choose with task=... .")
    if task in MEASURED:
        return _labelled(config, _measurement(config, task))
    recipe: dict[str, Any] = {
        "version": VERSION,
        "task": trained_by(config, task),
        "data": _data(config["data"], budget, fingerprint),
        "mask": config["mask"],
        "budget": None,  # said once the rest is known
        "precision": config["precision"],
        "seed": config["seed"],
    }
    if task in PARTS:
        maker = PARTS[task]
        recipe[maker] = within(config, maker, budget[task])
    else:
        maker = "stem"
        recipe["net"] = within(config, "net", budget[task])
        recipe["stem"] = _stem(config)
    judged = _judged_by(config, task)
    recipe |= judged
    needed = sorted(set(_needs({maker: recipe[maker], **judged})))
    if needed:
        recipe["prerequisites"] = {part: _derived(config, part, fingerprint) for part in needed}
    if recipe[maker].get("complete"):
        recipe["mask"] = NO_MASK
    return _labelled(config, recipe)


def _labelled(config: Mapping[str, Any], recipe: Mapping[str, Any]) -> Recipe:
    """The recipe, called after its budget or, at the full one, after what the papers say of it."""
    plain = json.loads(json.dumps(recipe))
    label = budget_label(config, plain)
    if label in WHOLE_BUDGETS and any(first["budget"] == CHANGED for first in plain.get("prerequisites", {}).values()):
        label = CHANGED  # so is what builds on something that was changed
    return Recipe({**plain, "budget": label})


def _stem(config: Mapping[str, Any]) -> dict[str, Any]:
    """The stem; its imputer, if it has one, is used as it is and fitted at most."""
    stem: dict[str, Any] = config["stem"]
    if "training" in stem.get("imputer", {}):
        raise LacunaError(
            f"stem.imputer={stem['imputer']['name']} must be trained: only task=impute does that, no stem has it."
        )
    return stem


def _measurement(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The recipe of a task that measures: no data, but the machine, for what another one says is another result."""
    from lacuna.runs.environment import hardware

    part, budget = dict(config[task]), config["budget"]
    where, repeats = part.pop("hardware", None), part["repeats"]
    if not isinstance(repeats, int) or repeats < 2:
        raise LacunaError(f"{task}.repeats={repeats} must be a whole number of at least 2.")
    most = budget[task]["max_repeats"]
    part["repeats"] = repeats if most is None else min(repeats, most)
    part["compiled"] = part["compiled"] and budget[task]["compiled"]
    return {
        "version": VERSION,
        "task": config["task"],
        "data": MADE_UP,
        "mask": {"name": "square"},
        task: part,
        "budget": None,
        "precision": config["precision"],
        "seed": config["seed"],
        "hardware": where or hardware(config["trainer"].get("accelerator") or "auto"),
    }


def _without_places(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without where a user's own images lie: their fingerprint says which they are."""
    data = {key: value for key, value in recipe["data"].items() if key not in PLACES}
    found = {**recipe, "data": data}
    if "prerequisites" in recipe:
        found["prerequisites"] = {part: _without_places(needed) for part, needed in recipe["prerequisites"].items()}
    return found


def _without_seed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    needed = recipe.get("prerequisites", {})
    needs = {part: found if part == FEATURES else _without_seed(found) for part, found in needed.items()}
    return {key: value for key, value in recipe.items() if key != "seed"} | {"prerequisites": needs}


def _seeded(recipe: Mapping[str, Any], seed: int) -> dict[str, Any]:
    found = {**recipe, "seed": seed}
    if "prerequisites" in recipe:
        needs = recipe["prerequisites"].items()
        found["prerequisites"] = {part: needed if part == FEATURES else _seeded(needed, seed) for part, needed in needs}
    return found


def trained_by(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The task of a configuration; a part may be trained in a way of its own (EM, say)."""
    own = config[PARTS[task]].get("task") if task in PARTS else None
    return {"name": task, "type": own} if own else dict(config["task"])


def _judged_by(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The feature net of a task that has one; how that is trained stands in the run it needs."""
    if task not in JUDGED_BY_FEATURES or config[FEATURES].get("name") == "none":
        return {}
    return {FEATURES: {key: value for key, value in config[FEATURES].items() if key != "run"}}


def _derived(config: Mapping[str, Any], part: str, fingerprint: str) -> dict[str, Any]:
    if part == FEATURES:
        return dict(resolve({**config, **config[FEATURES]["run"], "seed": 0}, fingerprint).config)
    if part not in TRAINED or part not in config:
        raise LacunaError(f"prerequisites: [{part}] names no part that can be trained; those are {', '.join(TRAINED)}.")
    return dict(resolve({**config, "task": TRAINED[part]}, fingerprint).config)


def _needs(spec: Any) -> Iterator[str]:
    """Every part named by a ``prerequisites`` anywhere in a spec."""
    if isinstance(spec, Mapping):
        yield from spec.get("prerequisites", ())
        for value in spec.values():
            yield from _needs(value)


def _data(data: Mapping[str, Any], budget: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    kept = {key: value for key, value in data.items() if key not in (*INFRASTRUCTURE, *VALIDATION)}
    kept["validation"] = validation_images(data, budget)
    share = budget_share(data)
    for limit in LIMITS:
        most = budget.get(limit)
        given = [n for n in (data.get(limit), most if most is None else max(1, int(most * share))) if n is not None]
        if not all(isinstance(n, int) and n > 0 for n in given):
            raise LacunaError(f"data.{limit}={given[0]} must be null or a whole number of at least 1.")
        kept[limit] = min(given) if given else None
    return kept | {"fingerprint": fingerprint}


def data_key(config: Mapping[str, Any]) -> str:
    """The same for configurations whose data are the same files."""
    if config["task"]["name"] in MEASURED:
        return str(MADE_UP["fingerprint"])
    data = {key: value for key, value in config["data"].items() if key not in (*LIMITS, *VALIDATION, "download")}
    return json.dumps(data, sort_keys=True)


def fingerprint_at_hand(config: Mapping[str, Any]) -> str | None:
    """The fingerprint of a configuration's data if they are prepared; nothing is read from elsewhere or written."""
    if config["task"]["name"] in MEASURED:
        return MADE_UP["fingerprint"]
    data = config["data"]
    source = source_of(data)
    if source.users_own:  # its prepared copy may be out of date
        return prepare_data(config)
    folder = source.folder(data["root"])
    return PreparedData(folder).provenance.fingerprint if PreparedData.exists(folder) else None


def prepare_data(config: Mapping[str, Any]) -> str:
    """Make sure the data of a configuration are there (downloading them if allowed); their fingerprint."""
    if config["task"]["name"] in MEASURED:
        return MADE_UP["fingerprint"]
    data = config["data"]
    prepared = source_of(data).prepare(data["root"], data["download"])
    fingerprint: str = prepared.provenance.fingerprint
    return fingerprint
