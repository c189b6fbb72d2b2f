"""What a search may vary: parameters by dotted key, each with its range or its choices.

The ``parameters`` of a search's config (``configs/search/...``) read::

    net.training.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
    net.training.batch_size: {low: 16, high: 128, step: 16} # whole numbers, for the key holds one
    stem.formula: {choices: [exact, paper]}
    net.dropout: null # not searched

Nothing here imports Optuna but :meth:`Parameter.distribution`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lacuna.errors import LacunaError

DIGITS = 4
"""Significant digits of a proposed number: more only makes the best command unreadable."""

RANGE_KEYS = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Parameter:
    """One dimension of the space: a range of numbers, or choices.

    Args:
        key: dotted, in the configuration.
        low, high: ends of the range, both possible.
        log: search the logarithm.
        step: distance between the values of a range; None: 1 for whole numbers, none for others.
        whole: whole numbers only.
        choices: instead of a range; any values that the configuration may hold.
    """

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False
    choices: tuple[Any, ...] | None = None

    def distribution(self) -> Any:
        """The same for Optuna, which knows choices by their JSON text (lists are none of its values)."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices is not None:
            return CategoricalDistribution([json.dumps(choice) for choice in self.choices])
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def value(self, raw: Any) -> Any:
        """What the configuration is given for a proposed value."""
        if self.choices is not None:
            return json.loads(raw)
        if self.whole:
            return int(raw)
        if self.step is not None:
            return round(float(raw), 10)
        return min(max(self._rounded(float(raw)), self.low), self.high)

    def raw(self, value: Any) -> Any:
        """The proposal that stands for a value of the configuration; None where the space has none."""
        if self.choices is not None:
            text = json.dumps(value)
            return text if text in self._texts() else None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number and self.contains(value) else None

    def contains(self, raw: Any) -> bool:
        """Whether a proposal, perhaps one of an earlier and wider space, is in this one."""
        if self.choices is not None:
            return raw in self._texts()
        if not isinstance(raw, int | float) or not self.low <= raw <= self.high or (self.whole and raw != int(raw)):
            return False
        if self.step is None:
            return True
        steps = (raw - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-6)

    @property
    def kind(self) -> Any:
        """What must be equal for trials of two searches to be trials of one; ranges may differ."""
        return self._texts() if self.choices is not None else {"log": self.log, "whole": self.whole}

    @property
    def ends(self) -> tuple[Any, Any]:
        """Two different values for the configuration, as far apart as there are."""
        return (self.choices[0], self.choices[-1]) if self.choices is not None else (self.low, self.high)

    def _texts(self) -> list[str]:
        return [json.dumps(choice) for choice in self.choices or ()]

    def _rounded(self, number: float) -> float:
        scale = abs(number) if self.log else self.high - self.low
        return round(number, DIGITS - 1 - math.floor(math.log10(scale))) if scale else number


def parse_space(parameters: Mapping[str, Any], present: Mapping[str, Any], who: str) -> tuple[Parameter, ...]:
    """The parameters of a search's config; those that are null are left out.

    Args:
        parameters: by dotted key.
        present: what the configuration holds at each key now.
        who: begins an error: ``search=classifier``.

    Raises:
        LacunaError: a parameter that is no range and no choices; nothing to search.
    """
    found = [_parse(key, spec, present[key], who) for key, spec in parameters.items() if spec is not None]
    if not found:
        raise LacunaError(f"{who}: search.parameters has nothing that could vary: give one of its keys a range.")
    return tuple(found)


def _parse(key: str, spec: Any, old: Any, who: str) -> Parameter:
    if isinstance(spec, Mapping) and set(spec) == {"choices"}:
        choices = spec["choices"]
        texts = [json.dumps(choice) for choice in choices] if isinstance(choices, list) else []
        if len(texts) < 2 or len(set(texts)) < len(texts):
            raise LacunaError(f"{who}: {key} needs at least two different choices, as in {{choices: [16, 32]}}.")
        return Parameter(key, choices=tuple(choices))
    if not isinstance(spec, Mapping) or not {"low", "high"} <= set(spec) <= set(RANGE_KEYS):
        raise LacunaError(
            f"{who}: {key} needs {{low: ..., high: ...}}, with log: true or a step, or {{choices: [...]}}."
        )
    return _range(key, dict(spec), old, who)


def _range(key: str, spec: dict[str, Any], old: Any, who: str) -> Parameter:
    low, high, log, step = spec["low"], spec["high"], spec.get("log", False), spec.get("step")
    numbers = [low, high] if step is None else [low, high, step]
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise LacunaError(f"{who}: low, high and step of {key} must be numbers.")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise LacunaError(
            f"{who}: log of {key} must be true or false; where it is true, low is above 0 and step is none."
        )
    if low >= high or (step is not None and not 0 < step <= high - low):
        raise LacunaError(f"{who}: low of {key} must be below high, and step must fit between them.")
    all_whole = all(isinstance(number, int) for number in numbers)
    whole = all_whole and (old is None or isinstance(old, int))
    if isinstance(old, int) and not isinstance(old, bool) and not all_whole:
        raise LacunaError(f"{who}: low, high and step of {key} must be whole numbers, for it is one (now {old}).")
    if step is not None:  # the last value that is reached; Optuna would warn of any other
        high = low + math.floor((high - low) / step + 1e-9) * step
    return Parameter(key, low, high, log, step, whole)
