"""The recipe: the part of a configuration that decides the numbers, and by its hash the identity of a run.

Data, mask, parts, networks, optimisation, budget, precision and seed are in it; devices, paths, loggers and progress
bars are not. What must be trained first is a recipe of its own, derived from the same configuration and nested under
``needs``. Nothing here imports torch, so that planning is instant.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lacuna import registry
from lacuna.data.prepared import PreparedData
from lacuna.errors import LacunaError

VERSION = 1
"""Raised when the same recipe would give other numbers, so that old runs are not mistaken for new ones."""

LIMITS = ("train_images", "validation_images", "test_images")
INFRASTRUCTURE = ("root", "download")
PLACES = ("path",)
BUDGET_PIXELS = 32 * 32
NO_MASK = {"name": "none", "type": "masks.NoMask", "seed": 0}
TRAINED = {"density": {"name": "density", "type": "density.TrainDensity"}}
"""Parts that are trained as a run of their own -> the task that trains them (``configs/task/``)."""
MEASURED = {"timing": ("size", "hole", "batch")}
"""Tasks that measure something instead of training -> the keys of their part that tell runs apart, for people."""
MADE_UP = {"name": "random", "fingerprint": "random"}
"""What stands for data where random numbers do."""
WHOLE = {"max_epochs": None, "lr_factor": 1.0, "max_repeats": None, "compiled": True}
"""A budget that leaves a task as it is."""


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe; ``content`` is plain JSON."""

    content: Mapping[str, Any]

    @cached_property
    def identity(self) -> str:
        """12 hexadecimal digits: equal recipes, equal identity."""
        text = json.dumps(_without_places(self.content), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def task(self) -> str:
        """``classify``, ``density``, ..."""
        return str(self.content["task"]["name"])

    @property
    def measured(self) -> bool:
        """Whether something is measured in this run and nothing is trained."""
        return self.task in MEASURED

    @property
    def group(self) -> str:
        """What repetitions with other seeds have in common, for people: data, mask and method."""
        method = self.content["stem"] if "stem" in self.content else self.content[self.task]
        if self.measured:
            parts = [self.task, *(f"{key}{method[key]}" for key in MEASURED[self.task])]
        else:
            parts = [self.content["data"]["name"], self.content["mask"]["name"], method["name"]]
        if self.content["budget"] != "paper":
            parts.append(self.content["budget"])
        return "-".join(parts)

    @property
    def family(self) -> str:
        """6 hexadecimal digits: equal for recipes that differ in nothing but the seed."""
        text = json.dumps(_without_seed(_without_places(self.content)), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:6]

    @cached_property
    def name(self) -> str:
        """Name of the run's directory."""
        return f"{self.group}-s{self.content['seed']}-{self.identity}"

    @cached_property
    def needs(self) -> dict[str, Recipe]:
        """The runs whose results this one builds on, by part."""
        return {part: Recipe(content) for part, content in self.content.get("needs", {}).items()}

    @property
    def training(self) -> Mapping[str, Any]:
        """Epochs, batch size, learning rate, ... of what this run trains; empty if it trains nothing."""
        if self.measured:
            return {}
        part: Mapping[str, Any] = self.content["net" if self.task == "classify" else self.task]["training"]
        return part

    def with_seed(self, seed: int) -> Recipe:
        """The same with another seed, also in everything it needs."""
        return Recipe(_seeded(self.content, seed))


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
        return Recipe(json.loads(json.dumps(_measurement(config, task))))
    content: dict[str, Any] = {
        "version": VERSION,
        "task": config["task"],
        "data": _data(config["data"], budget, fingerprint),
        "mask": config["mask"],
        "budget": _budget_name(config, task),
        "precision": config["precision"],
        "seed": config["seed"],
    }
    if task in TRAINED:  # a part is trained by the task of its name
        content[task] = _within(config, task, budget[task])
    else:
        content["net"] = _within(config, "net", budget[task])
        content["stem"] = config["stem"]
        if config["stem"].get("complete"):
            content["mask"] = NO_MASK
        needed = sorted(set(_needs(config["stem"])))
        if needed:
            content["needs"] = {part: _derived(config, part, fingerprint) for part in needed}
    return Recipe(json.loads(json.dumps(content)))


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
        "budget": _budget_name(config, task),
        "precision": config["precision"],
        "seed": config["seed"],
        "hardware": where or hardware(config["trainer"].get("accelerator") or "auto"),
    }


def _without_places(content: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without where a user's own images lie: their fingerprint says which they are."""
    data = {key: value for key, value in content["data"].items() if key not in PLACES}
    found = {**content, "data": data}
    if "needs" in content:
        found["needs"] = {part: _without_places(needed) for part, needed in content["needs"].items()}
    return found


def _without_seed(content: Mapping[str, Any]) -> dict[str, Any]:
    needs = {part: _without_seed(needed) for part, needed in content.get("needs", {}).items()}
    return {key: value for key, value in content.items() if key != "seed"} | {"needs": needs}


def _seeded(content: Mapping[str, Any], seed: int) -> dict[str, Any]:
    found = {**content, "seed": seed}
    if "needs" in content:
        found["needs"] = {part: _seeded(needed, seed) for part, needed in content["needs"].items()}
    return found


def _budget_name(config: Mapping[str, Any], task: str) -> str:
    """The budget's name; ``cut`` where ``paper`` was asked for and less than that is done."""
    budget = config["budget"]
    limits = [config["data"].get(limit) for limit in LIMITS] + [budget.get(limit) for limit in LIMITS]
    if task in MEASURED:  # of no images
        limits = []
    as_it_is = all(WHOLE.get(key) == value for key, value in budget[task].items())
    whole = as_it_is and all(limit is None for limit in limits)
    return str(budget["name"]) if whole or budget["name"] != "paper" else "cut"


def _derived(config: Mapping[str, Any], part: str, fingerprint: str) -> dict[str, Any]:
    if part not in TRAINED or part not in config:
        raise LacunaError(f"needs: [{part}] names no part that can be trained; those are {', '.join(TRAINED)}.")
    return dict(resolve({**config, "task": TRAINED[part]}, fingerprint).content)


def _needs(spec: Any) -> Iterator[str]:
    """Every part named by a ``needs`` anywhere in a spec."""
    if isinstance(spec, Mapping):
        yield from spec.get("needs", ())
        for value in spec.values():
            yield from _needs(value)


def _data(data: Mapping[str, Any], budget: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    kept = {key: value for key, value in data.items() if key not in INFRASTRUCTURE}
    share = _budget_share(data)
    for limit in LIMITS:
        most = budget.get(limit)
        given = [n for n in (data.get(limit), most if most is None else max(1, int(most * share))) if n is not None]
        if not all(isinstance(n, int) and n > 0 for n in given):
            raise LacunaError(f"data.{limit}={given[0]} must be null or a whole number of at least 1.")
        kept[limit] = min(given) if given else None
    return kept | {"fingerprint": fingerprint}


def _budget_share(data: Mapping[str, Any]) -> float:
    """A budget counts images of 32x32 pixels; of larger ones there are fewer, by their area."""
    shape = _source(data).shape
    return 1.0 if shape is None else min(1.0, BUDGET_PIXELS / (shape[1] * shape[2]))


def _source(data: Mapping[str, Any]) -> Any:
    arguments = {key: value for key, value in data.items() if key not in (*LIMITS, *INFRASTRUCTURE, "validation")}
    return registry.build("data", arguments)


def _within(config: Mapping[str, Any], part: str, budget: Mapping[str, Any]) -> dict[str, Any]:
    """The part with its training cut to the budget; milestones keep their place relative to the whole."""
    training = dict(config[part]["training"])
    epochs, lr = training["epochs"], training["lr"]
    if not (isinstance(epochs, int) and epochs >= 1 and isinstance(lr, (int, float)) and 0 < lr < math.inf):
        raise LacunaError(
            f"{part}.training.epochs={epochs} must be at least 1, and {part}.training.lr={lr} more than 0."
        )
    factor, most = budget["lr_factor"], budget["max_epochs"]
    share = min(1.0, most / epochs) if most is not None else 1.0
    training["lr"] = lr * factor
    try:
        training["lr_milestones"] = [[round(e * share), rate * factor] for e, rate in training["lr_milestones"]]
    except (TypeError, ValueError) as error:
        raise LacunaError(f"{part}.training.lr_milestones needs [epoch, rate] pairs, as in [[10,1e-4]].") from error
    if training.get("mse_epochs"):
        training["mse_epochs"] = max(1, round(training["mse_epochs"] * share))
    training["epochs"] = max(1, round(epochs * share))
    return {**config[part], "training": training}


def data_key(config: Mapping[str, Any]) -> str:
    """The same for configurations whose data are the same files."""
    if config["task"]["name"] in MEASURED:
        return str(MADE_UP["fingerprint"])
    data = {key: value for key, value in config["data"].items() if key not in (*LIMITS, "validation", "download")}
    return json.dumps(data, sort_keys=True)


def fingerprint_at_hand(config: Mapping[str, Any]) -> str | None:
    """The fingerprint of a configuration's data if they are prepared; nothing is read from elsewhere or written."""
    if config["task"]["name"] in MEASURED:
        return MADE_UP["fingerprint"]
    data = config["data"]
    source = _source(data)
    if source.users_own:  # its prepared copy may be out of date
        return prepare_data(config)
    folder = source.folder(data["root"])
    return PreparedData(folder).provenance.fingerprint if PreparedData.exists(folder) else None


def prepare_data(config: Mapping[str, Any]) -> str:
    """Make sure the data of a configuration are there (downloading them if allowed); their fingerprint."""
    if config["task"]["name"] in MEASURED:
        return MADE_UP["fingerprint"]
    data = config["data"]
    prepared = _source(data).prepare(data["root"], data["download"])
    fingerprint: str = prepared.provenance.fingerprint
    return fingerprint
