"""What a search is about: a configuration of ``train.py``, what may vary in it, and the number that judges a trial.

Nothing here imports torch or Optuna, and nothing is trained.
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

NEVER = ("data", "mask", "budget", "seed", "task")
"""These say what is compared; trials that differ in them are no rivals."""

DIRECTIONS = ("maximize", "minimize")
Values = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """A search, checked; make it with :meth:`of`.

    Args:
        search: name of the search.
        config: a composed configuration.
        parameters: what varies.
        kept: dotted keys that stay as they are, whatever else would follow a parameter.
        metric: ``validation/...``.
        direction: maximize or minimize.
        seeds: a trial is the mean over the runs with these.
        fingerprint: of the data.
    """

    search: str
    config: Mapping[str, Any]
    parameters: tuple[Parameter, ...]
    kept: frozenset[str]
    metric: str
    direction: str
    seeds: tuple[int, ...]
    fingerprint: str

    @classmethod
    def of(cls, config: Mapping[str, Any], fixed: Iterable[str] = ()) -> Problem:
        """From the composed configuration of ``sweep.py``; makes sure that the data are there.

        Args:
            fixed: dotted keys that were set on the command line; they are not searched.

        Raises:
            LacunaError: a mistake in the search's config or a configuration that it does not fit.
        """
        search, kept = config.get("search"), frozenset(fixed)
        if not search:
            raise LacunaError("search is empty: choose one, for instance search=classifier; --help lists them.")
        who = f"search={search['name']}"
        _check_search(search, config, who)
        config = _with_validation(config)
        wanted = {key: spec for key, spec in search["parameters"].items() if key not in kept}
        for key in wanted:
            if wanted[key] is not None and not Composer.has(config, key):
                out = f"'search.parameters={{{key}: null}}'"
                raise LacunaError(f"{who}: there is no key {key} in this experiment: leave it out with {out}.")
        parameters = parse_space(wanted, {key: _at(config, key) for key in wanted if wanted[key] is not None}, who)
        problem = cls(
            search=str(search["name"]),
            config=config,
            parameters=parameters,
            kept=kept,
            metric=search["metric"],
            direction=search["direction"],
            seeds=_seeds(config),
            fingerprint=_prepare(config, who),
        )
        problem._check_parameters(who)
        return problem

    # ------------------------------------------------------------------ a trial

    def values(self, raw: Mapping[str, Any]) -> Values:
        """What a trial sets, by dotted key."""
        return self._with_schedules({p.key: p.value(raw[p.key]) for p in self.parameters})

    def recipes(self, raw: Mapping[str, Any]) -> tuple[Recipe, ...]:
        """The runs of a trial, one a seed.

        Raises:
            LacunaError: values that no run can have.
        """
        return self._recipes(self.values(raw))

    def result(self, recipes: Iterable[Recipe]) -> list[float]:
        """The metric of every run, all of which are finished.

        Raises:
            LacunaError: the runs have no such metric.
        """
        return [final_metric(RunFolder.of(self.settings.output, recipe), self.metric) for recipe in recipes]

    @property
    def start(self) -> dict[str, Any] | None:
        """The configuration as it stands, as a trial; None where the space does not contain it."""
        raw = {p.key: p.raw(_at(self.config, p.key)) for p in self.parameters}
        return None if any(value is None for value in raw.values()) else raw

    # ------------------------------------------------------------------ the sweep

    @cached_property
    def settings(self) -> Settings:
        """How and where its runs run."""
        return Settings.of({**self.config, "trainer": {**self.config["trainer"], "progress": False}})

    @cached_property
    def base(self) -> dict[str, Any]:
        """The recipe of seed 0 without what varies."""
        # where a schedule follows the learning rate, only its proportions stay the same
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
        """Of the sweep's folder: equal for searches whose trials may be compared, whatever their ranges."""
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
        """Where the sweep lives."""
        return self.settings.output / "sweeps" / self.name

    def better(self, one: float, other: float) -> bool:
        """Whether the first value beats the second."""
        return one > other if self.direction == "maximize" else one < other

    # ------------------------------------------------------------------ inside

    def _recipes(self, values: Values) -> tuple[Recipe, ...]:
        config = Composer.with_values(self.config, values, f"search={self.search}")
        first = resolve({**config, "seed": self.seeds[0]}, self.fingerprint)
        return tuple(first.with_seed(seed) for seed in self.seeds)

    def _with_schedules(self, values: Values) -> Values:
        """Later learning rates keep their ratio to a first one that varies, unless somebody set them."""
        found = dict(values)
        for key, lr in values.items():
            milestones = key.removesuffix("lr") + "lr_milestones"
            if not key.endswith(".training.lr") or milestones in self.kept or milestones in values:
                continue
            old = _at(self.config, key)
            pairs = _at(self.config, milestones) if Composer.has(self.config, milestones) else None
            if pairs:
                found[milestones] = [[epoch, _significant(rate * lr / old)] for epoch, rate in pairs]
        return found

    def _check_parameters(self, who: str) -> None:
        """Every end of every range makes a recipe, another one, and trains no other part than before."""
        for parameter in self.parameters:
            if parameter.key.split(".")[0] in NEVER:
                raise LacunaError(f"{who}: {parameter.key} says what is compared, so it cannot be searched.")
            for choice in parameter.choices or ():
                Composer.with_values(self.config, {parameter.key: choice}, who)
            one, other = (self._recipes(self._with_schedules({parameter.key: end}))[0] for end in parameter.ends)
            if one.identity == other.identity:
                raise LacunaError(f"{who}: {parameter.key} changes nothing in this experiment: set it to null.")
            if {n.identity for n in one.prerequisites.values()} != {n.identity for n in other.prerequisites.values()}:
                part = parameter.key.split(".")[0]
                raise LacunaError(
                    f"{who}: {parameter.key} belongs to what is trained first: search it with task={part}."
                )


def final_metric(folder: RunFolder, metric: str) -> float:
    """A metric of a finished run: of its final metrics, or of the last line of its history (the last epoch's).

    Raises:
        LacunaError: the run has no such metric.
    """
    final = folder.metrics["metrics"]
    if metric in final:
        return float(final[metric])
    lines = (folder.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1]) if lines else {}
    if metric in last:
        return float(last[metric])
    known = ", ".join(sorted(name for name in {*final, *last} if name.startswith("validation/"))) or "none"
    raise LacunaError(f"search.metric={metric} is no metric of {folder.path.name}; those of its validation: {known}.")


def _check_search(search: Mapping[str, Any], config: Mapping[str, Any], who: str) -> None:
    metric, direction, task = str(search["metric"]), search["direction"], search.get("task")
    if metric.split("/")[0] in ("test", "complete"):
        raise LacunaError(f"{who}: search.metric={metric} would choose by test images: take a validation/... metric.")
    if not metric.startswith("validation/"):
        raise LacunaError(f"{who}: search.metric={metric} must be a validation/... metric, as validation/loss.")
    if direction not in DIRECTIONS:
        raise LacunaError(f"{who}: search.direction={direction} must be maximize or minimize.")
    if task not in (None, config["task"]["name"]):
        raise LacunaError(
            f"{who} is for task={task}, and this is task={config['task']['name']}: choose another experiment."
        )
    if not isinstance(search["parameters"], Mapping):
        raise LacunaError(f"{who}: search.parameters must say what varies, by dotted key.")


def _seeds(config: Mapping[str, Any]) -> tuple[int, ...]:
    count, first = config["seeds"], config["seed"]
    if type(count) is not int or count < 1 or type(first) is not int:
        raise LacunaError(
            f"seeds={count} must be a whole number of at least 1 (how many runs a trial has), seed={first} too."
        )
    return tuple(range(first, first + count))


def _with_validation(config: Mapping[str, Any]) -> dict[str, Any]:
    """A search judges by validation images at every budget: as many as the data's config gives by default."""
    data = config["data"]
    if data.get("validation") is not None:
        return dict(config)
    return {**config, "data": {**data, "validation": data.get("default_validation", 0)}}


def _prepare(config: Mapping[str, Any], who: str) -> str:
    """The data's fingerprint; refuses data without validation images, for then there is nothing to judge by."""
    data = config["data"]
    provenance = source_of(data).prepare(data["root"], data["download"]).provenance
    if not data["validation"] and "validation" not in provenance.counts:
        raise LacunaError(
            f"{who} needs validation images: set data.validation to how many training images to set aside."
        )
    fingerprint: str = provenance.fingerprint
    return fingerprint


def _at(config: Mapping[str, Any], key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = found[part]
    return found


def _significant(number: float) -> float:
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else number


def describe(problem: Problem) -> dict[str, Any]:
    """What a sweep's folder says of itself."""
    space = {p.key: list(p.choices) if p.choices else [p.low, p.high] for p in problem.parameters}
    fixed = {"metric": problem.metric, "direction": problem.direction, "seeds": list(problem.seeds)}
    return {**fixed, "parameters": space, "base": problem.base}


def write_description(problem: Problem) -> None:
    """Write it to ``sweep.json``."""
    files.write_json(problem.folder / "sweep.json", describe(problem))
