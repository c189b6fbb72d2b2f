"""The problem of a search: a configuration of ``train.py``, its varied parameters, and the metric that judges a trial.

Imports neither torch nor Optuna; nothing is trained.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.config.composer import Composer
from lacuna.errors import LacunaError
from lacuna.runs.budget import source_of
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.runs.settings import Settings
from lacuna.search.space import DIGITS, Parameter, parse_space

NOT_SEARCHABLE = ("data", "mask", "budget", "seed", "task")
"""Trials that differ in these cannot be compared."""

DIRECTIONS = ("maximize", "minimize")
Values = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """A checked search; create it with :meth:`of`.

    Args:
        search: name of the search.
        config: a composed configuration.
        parameters: the varied parameters.
        fixed: dotted keys that the command line sets; they never change, also if they would follow a parameter.
        metric: ``validation/...``.
        direction: maximize or minimize.
        seeds: the value of a trial is the mean over runs with these seeds.
        fingerprint: of the data.
    """

    search: str
    config: Mapping[str, Any]
    parameters: tuple[Parameter, ...]
    fixed: frozenset[str]
    metric: str
    direction: str
    seeds: tuple[int, ...]
    fingerprint: str

    @classmethod
    def of(cls, config: Mapping[str, Any], fixed: Iterable[str] = ()) -> Problem:
        """From the composed configuration of ``sweep.py``. Prepares the data if needed.

        Args:
            config: the configuration.
            fixed: dotted keys that the command line sets; they are not searched.

        Raises:
            LacunaError: a mistake in the search's config, or a configuration to which it does not apply.
        """
        search, fixed_keys = config.get("search"), frozenset(fixed)
        if not search:
            raise LacunaError("search is empty: choose one, for instance search=classifier; --help lists them.")
        prefix = f"search={search['name']}"
        _check_search(search, config, prefix)
        config = _with_validation(config)
        wanted = {key: spec for key, spec in search["parameters"].items() if key not in fixed_keys}
        for key in wanted:
            if wanted[key] is not None and not Composer.has(config, key):
                out = f"'search.parameters={{{key}: null}}'"
                raise LacunaError(f"{prefix}: this experiment has no key {key}: leave it out with {out}.")
        parameters = parse_space(
            wanted, {key: _value_at(config, key) for key in wanted if wanted[key] is not None}, prefix
        )
        problem = cls(
            search=str(search["name"]),
            config=config,
            parameters=parameters,
            fixed=fixed_keys,
            metric=search["metric"],
            direction=search["direction"],
            seeds=_seeds(config),
            fingerprint=_prepare(config, prefix),
        )
        problem._check_parameters(prefix)
        return problem

    # ------------------------------------------------------------------ a trial

    def values(self, raw: Mapping[str, Any]) -> Values:
        """The values that a trial sets, by dotted key."""
        return self._with_schedules({p.key: p.value(raw[p.key]) for p in self.parameters})

    def recipes(self, raw: Mapping[str, Any]) -> tuple[Recipe, ...]:
        """The runs of a trial, one for each seed.

        Raises:
            LacunaError: values that are invalid for a run.
        """
        return self._recipes(self.values(raw))

    def result(self, recipes: Iterable[Recipe]) -> list[float]:
        """The metric of every run; all of them must be finished.

        Raises:
            LacunaError: a run does not have the metric.
        """
        return [final_metric(RunFolder.of(self.settings.output, recipe), self.metric) for recipe in recipes]

    @property
    def start(self) -> dict[str, Any] | None:
        """The unchanged configuration as a trial; None if the space does not contain it."""
        raw = {p.key: p.raw(_value_at(self.config, p.key)) for p in self.parameters}
        return None if any(value is None for value in raw.values()) else raw

    # ------------------------------------------------------------------ the sweep

    @cached_property
    def settings(self) -> Settings:
        """Settings of its runs."""
        settings = Settings.of({**self.config, "trainer": {**self.config["trainer"], "progress": False}})
        return settings.labelled(self.name, ["sweep", self.search])

    @cached_property
    def base(self) -> dict[str, Any]:
        """The recipe of seed 0 without the varied parameters."""
        # of a schedule that follows the learning rate, only the proportions are fixed
        rates = {p.key: 1.0 for p in self.parameters if p.key.endswith(".training.lr")}
        (recipe, *_) = self._recipes(self._with_schedules(rates))
        content: dict[str, Any] = json.loads(json.dumps(recipe.with_seed(0).config))
        for parameter in self.parameters:
            *path, last = parameter.key.split(".")
            place = content
            for part in path:
                place = place[part]
            del place[last]
        return content

    @cached_property
    def name(self) -> str:
        """Name of the sweep's folder: equal for searches with comparable trials, whatever their ranges."""
        fixed = {
            "base": Recipe(self.base).identity,
            "seeds": sorted(self.seeds),
            "metric": self.metric,
            "direction": self.direction,
            "parameters": {p.key: p.kind for p in self.parameters},
        }
        digest = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:10]
        return f"{Recipe(self.base).group}-{self.search}-{digest}"

    @property
    def folder(self) -> Path:
        """The folder of the sweep."""
        return Path(self.config["output"]) / "sweeps" / self.name

    def better(self, one: float, other: float) -> bool:
        """Whether the first value is better than the second."""
        return one > other if self.direction == "maximize" else one < other

    # ------------------------------------------------------------------ internal

    def _recipes(self, values: Values) -> tuple[Recipe, ...]:
        config = Composer.with_values(self.config, values, f"search={self.search}")
        first = resolve({**config, "seed": self.seeds[0]}, self.fingerprint)
        return tuple(first.with_seed(seed) for seed in self.seeds)

    def _with_schedules(self, values: Values) -> Values:
        """Scale later learning rates with a varied first one, unless the command line sets them."""
        found = dict(values)
        for key, lr in values.items():
            milestones = key.removesuffix("lr") + "lr_milestones"
            if not key.endswith(".training.lr") or milestones in self.fixed or milestones in values:
                continue
            old = _value_at(self.config, key)
            pairs = _value_at(self.config, milestones) if Composer.has(self.config, milestones) else None
            if pairs:
                found[milestones] = [[epoch, _significant(rate * lr / old)] for epoch, rate in pairs]
        return found

    def _check_parameters(self, prefix: str) -> None:
        """Check that the ends of every range give different recipes with the same prerequisites."""
        for parameter in self.parameters:
            if parameter.key.split(".")[0] in NOT_SEARCHABLE:
                raise LacunaError(
                    f"{prefix}: {parameter.key} cannot be searched: trials that differ in it cannot be compared."
                )
            for choice in parameter.choices or ():
                Composer.with_values(self.config, {parameter.key: choice}, prefix)
            one, other = (self._recipes(self._with_schedules({parameter.key: end}))[0] for end in parameter.ends)
            if one.identity == other.identity:
                raise LacunaError(f"{prefix}: {parameter.key} changes nothing in this experiment: set it to null.")
            if {n.identity for n in one.prerequisites.values()} != {n.identity for n in other.prerequisites.values()}:
                part = parameter.key.split(".")[0]
                raise LacunaError(f"{prefix}: {parameter.key} belongs to a prerequisite: search it with task={part}.")


def final_metric(folder: RunFolder, metric: str) -> float:
    """A metric of a finished run: from its final metrics, otherwise from the last epoch of its history.

    Raises:
        LacunaError: the run does not have the metric.
    """
    final = folder.metrics["metrics"]
    if metric in final:
        return float(final[metric])
    lines = (folder.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1]) if lines else {}
    if metric in last:
        return float(last[metric])
    known = ", ".join(sorted(name for name in {*final, *last} if name.startswith("validation/"))) or "none"
    raise LacunaError(f"search.metric={metric} is not a metric of {folder.path.name}; its validation metrics: {known}.")


def _check_search(search: Mapping[str, Any], config: Mapping[str, Any], prefix: str) -> None:
    metric, direction, task = str(search["metric"]), search["direction"], search.get("task")
    if metric.split("/")[0] in ("test", "complete"):
        raise LacunaError(f"{prefix}: search.metric={metric} would select by test images: use a validation/... metric.")
    if not metric.startswith("validation/"):
        raise LacunaError(f"{prefix}: search.metric={metric} must be a validation/... metric, such as validation/loss.")
    if direction not in DIRECTIONS:
        raise LacunaError(f"{prefix}: search.direction={direction} must be maximize or minimize.")
    if task not in (None, config["task"]["name"]):
        raise LacunaError(
            f"{prefix} is for task={task}, and this is task={config['task']['name']}: choose another experiment."
        )
    if not isinstance(search["parameters"], Mapping):
        raise LacunaError(f"{prefix}: search.parameters must map dotted keys to ranges or choices.")


def _seeds(config: Mapping[str, Any]) -> tuple[int, ...]:
    count, first = config["seeds"], config["seed"]
    if type(count) is not int or count < 1 or type(first) is not int:
        raise LacunaError(
            f"seeds={count} (runs of a trial) must be a whole number of at least 1, and seed={first} a whole number."
        )
    return tuple(range(first, first + count))


def _with_validation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Set the number of validation images, at every budget: the default of the data's config."""
    data = config["data"]
    if data.get("validation") is not None:
        return dict(config)
    return {**config, "data": {**data, "validation": data.get("default_validation", 0)}}


def _prepare(config: Mapping[str, Any], prefix: str) -> str:
    """The data's fingerprint.

    Raises:
        LacunaError: data without validation images.
    """
    data = config["data"]
    provenance = source_of(data).prepare(data["root"], data["download"]).provenance
    if not data["validation"] and "validation" not in provenance.counts:
        raise LacunaError(
            f"{prefix} needs validation images: set data.validation to the number of training images to use for it."
        )
    fingerprint: str = provenance.fingerprint
    return fingerprint


def _value_at(config: Mapping[str, Any], key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = found[part]
    return found


def _significant(number: float) -> float:
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else number


def describe(problem: Problem) -> dict[str, Any]:
    """The content of ``sweep.json``."""
    space = {p.key: list(p.choices) if p.choices else [p.low, p.high] for p in problem.parameters}
    fixed = {"metric": problem.metric, "direction": problem.direction, "seeds": list(problem.seeds)}
    return {**fixed, "parameters": space, "base": problem.base}


def write_description(problem: Problem) -> None:
    """Write ``sweep.json``."""
    files.write_json(problem.folder / "sweep.json", describe(problem))
