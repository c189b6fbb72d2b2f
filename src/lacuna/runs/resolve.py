"""From a config to a recipe, with the recipes of its prerequisites.

Prerequisites are found in the config: a component that names them in its ``prerequisites`` gets a recipe for each,
resolved from the same config. Nothing here imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lacuna import plugins, registry
from lacuna.errors import LacunaError
from lacuna.papers import CHANGED, CUT
from lacuna.runs.budget import (
    INFRASTRUCTURE,
    LIMITS,
    MEASURED,
    VALIDATION,
    budget_label,
    budget_share,
    validation_images,
    within,
)
from lacuna.runs.precision import precision_of
from lacuna.runs.recipe import FEATURES, PARTS, VERSION, WHOLE_BUDGETS, Recipe

NO_MASK = {"name": "none", "type": "masks.NoMask", "seed": 0}
TRAINED = {
    "density": {"name": "density", "type": "dmfa.TrainDMFA"},
    "flow": {"name": "flow", "type": "acflow.TrainACFlow"},
}
"""Components that are trained in a run of their own -> the task that trains them (``configs/task/``), unless the
component names another one with its key ``task``."""
JUDGED_BY_FEATURES = ("generate", "impute")
"""Tasks whose images a feature net judges, unless ``features=none``."""
RANDOM_DATA = {"name": "random", "fingerprint": "random"}
"""The ``data`` of a measurement, which uses random numbers."""
FIRST_LAYER = {"filters": 32, "kernel_size": 3, "padding": 1}
"""The keys of ``stem`` that say how large its layer is (``configs/stem/_conv.yaml``)."""


def resolve(config: Mapping[str, Any], fingerprint: str) -> Recipe:
    """The recipe of a config.

    Args:
        config: the resolved config of ``train.py``, as plain values.
        fingerprint: of the prepared data, so that a sample is never mistaken for the complete set.

    Raises:
        LacunaError: a prerequisite is missing from the config, a seed or limit is no whole number, or a part is of a
            package that was not named.
    """
    config = {key: registry.with_types(value, key) for key, value in config.items()}  # a copy
    with plugins.permit(config.get("plugins", ()), announced=True):
        return _resolved(config, fingerprint)


def _resolved(config: dict[str, Any], fingerprint: str) -> Recipe:
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
        "budget": None,  # its label depends on the rest: see _labelled
        "precision": precision_of(config["precision"]),
        "seed": config["seed"],
    }
    if task in PARTS:
        component = PARTS[task]
        recipe[component] = within(config, component, budget[task])
    else:
        component = "stem"
        recipe["net"] = within(config, "net", budget[task])
        recipe["stem"] = _stem(config)
    features = _features(config, task)
    recipe |= features
    prerequisites = sorted(set(_named_prerequisites({component: recipe[component], **features})))
    if prerequisites:
        recipe["prerequisites"] = {name: _prerequisite(config, name, fingerprint) for name in prerequisites}
    if recipe[component].get("complete"):
        recipe["mask"] = NO_MASK
    return _labelled(config, recipe)


def _labelled(config: Mapping[str, Any], recipe: Mapping[str, Any]) -> Recipe:
    """The recipe with the label of its budget; at the full budget that says what the papers print of its settings."""
    plain = json.loads(json.dumps(recipe))
    if used := plugins.record(plain):
        plain["plugins"] = used
    label = budget_label(config, plain)
    nested = [prerequisite["budget"] for prerequisite in plain.get("prerequisites", {}).values()]
    if label in WHOLE_BUDGETS:
        label = next((one for one in (CUT, CHANGED) if one in nested), label)
    return Recipe({**plain, "budget": label})


def _stem(config: Mapping[str, Any]) -> dict[str, Any]:
    """The stem. Its imputer, if it has one, may be fitted but not trained."""
    stem: dict[str, Any] = config["stem"]
    if registry.is_network("net", config["net"].get("type")):
        stem = _without_sizes(stem, config["net"])
    if "training" in stem.get("imputer", {}):
        raise LacunaError(
            f"stem.imputer={stem['imputer']['name']} must be trained: only task=impute does that, no stem has it."
        )
    return stem


def _without_sizes(stem: Mapping[str, Any], net: Mapping[str, Any]) -> dict[str, Any]:
    """A stem in front of a network of torchvision or timm, whose first convolution it becomes: that has the sizes."""
    for key, default in FIRST_LAYER.items():
        if stem.get(key, default) != default:
            raise LacunaError(
                f"stem.{key}={stem[key]}: the stem becomes the first convolution of net.type={net['type']} and has its "
                f"size: leave out stem.{key}, and set net.first_layer for another one."
            )
    return {key: value for key, value in stem.items() if key not in FIRST_LAYER}


def _measurement(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The recipe of a task that measures: it has no data, but names the hardware, which decides the result."""
    from lacuna.runs.environment import hardware

    measured, budget = dict(config[task]), config["budget"]
    asked_hardware, repeats = measured.pop("hardware", None), measured["repeats"]
    if not isinstance(repeats, int) or repeats < 2:
        raise LacunaError(f"{task}.repeats={repeats} must be a whole number of at least 2.")
    most = budget[task]["max_repeats"]
    measured["repeats"] = repeats if most is None else min(repeats, most)
    measured["compiled"] = measured["compiled"] and budget[task]["compiled"]
    return {
        "version": VERSION,
        "task": config["task"],
        "data": RANDOM_DATA,
        "mask": {"name": "square"},
        task: measured,
        "budget": None,
        "precision": precision_of(config["precision"]),
        "seed": config["seed"],
        "hardware": asked_hardware or hardware(config["trainer"].get("accelerator") or "auto"),
    }


def trained_by(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The task of a config; a component may name another way to train it with its key ``task`` (EM, say)."""
    own = config[PARTS[task]].get("task") if task in PARTS else None
    return {"name": task, "type": own} if own else dict(config["task"])


def _features(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The feature net that judges a task, if one does; how it is trained stands in the prerequisite."""
    if task not in JUDGED_BY_FEATURES or config[FEATURES].get("name") == "none":
        return {}
    return {FEATURES: {key: value for key, value in config[FEATURES].items() if key != "run"}}


def _prerequisite(config: Mapping[str, Any], component: str, fingerprint: str) -> dict[str, Any]:
    if component == FEATURES:
        return dict(resolve({**config, **config[FEATURES]["run"], "seed": 0}, fingerprint).config)
    if component not in TRAINED or component not in config:
        known = ", ".join(TRAINED)
        raise LacunaError(f"prerequisites: [{component}] is nothing that can be trained; choose from {known}.")
    return dict(resolve({**config, "task": TRAINED[component]}, fingerprint).config)


def _named_prerequisites(config: Any) -> Iterator[str]:
    """Every name in a ``prerequisites`` anywhere in a config."""
    if isinstance(config, Mapping):
        yield from config.get("prerequisites", ())
        for value in config.values():
            yield from _named_prerequisites(value)


def _data(data: Mapping[str, Any], budget: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    kept = {key: value for key, value in data.items() if key not in (*INFRASTRUCTURE, *VALIDATION)}
    kept["validation"] = validation_images(data, budget)
    """The ``data`` of a recipe: no more images than the config or the budget allows."""
    share = budget_share(data)
    for limit in LIMITS:
        most = budget.get(limit)
        given = [n for n in (data.get(limit), most if most is None else max(1, int(most * share))) if n is not None]
        if not all(isinstance(n, int) and n > 0 for n in given):
            raise LacunaError(f"data.{limit}={given[0]} must be null or a whole number of at least 1.")
        kept[limit] = min(given) if given else None
    return kept | {"fingerprint": fingerprint}
