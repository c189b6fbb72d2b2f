"""The space of a search: parameters by dotted key, each with a range or choices.

The ``parameters`` of a search's config (``configs/search/...``) read::

    net.training.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
    net.training.batch_size: {low: 16, high: 128, step: 16} # whole numbers, because the key holds one
    stem.formula: {choices: [exact, paper]}
    net.dropout: null # not searched

Only :meth:`Parameter.distribution` imports Optuna.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lacuna.errors import LacunaError

DIGITS = 4
"""Significant digits of a proposed number; more would only make the best command unreadable."""

RANGE_KEYS = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Parameter:
    """One dimension of the space: a range of numbers, or choices.

    Args:
        key: dotted, in the configuration.
        low, high: ends of the range, inclusive.
        log: whether to search the logarithm.
        step: distance between the values of a range; None: 1 for whole numbers, none for others.
        whole: whether it takes whole numbers only.
        choices: any values that the configuration may hold; None: a range.
    """

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False
    choices: tuple[Any, ...] | None = None

    def distribution(self) -> Any:
        """The parameter for Optuna. Choices are JSON texts there, because Optuna has no lists as values."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices is not None:
            return CategoricalDistribution([json.dumps(choice) for choice in self.choices])
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def value(self, raw: Any) -> Any:
        """The value in the configuration for a value of Optuna."""
        if self.choices is not None:
            return json.loads(raw)
        if self.whole:
            return int(raw)
        if self.step is not None:
            return round(float(raw), 10)
        return min(max(self._rounded(float(raw)), self.low), self.high)

    def raw(self, value: Any) -> Any:
        """The value of Optuna for a value in the configuration; None if the space does not contain it."""
        if self.choices is not None:
            text = json.dumps(value)
            return text if text in self._texts() else None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number and self.contains(value) else None

    def contains(self, raw: Any) -> bool:
        """Whether a value of Optuna, perhaps from an earlier and wider space, is in this space."""
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
        """Equal for parameters whose trials may be in one study; ranges may differ."""
        return self._texts() if self.choices is not None else {"log": self.log, "whole": self.whole}

    @property
    def ends(self) -> tuple[Any, Any]:
        """The two values for the configuration that are farthest apart."""
        return (self.choices[0], self.choices[-1]) if self.choices is not None else (self.low, self.high)

    def _texts(self) -> list[str]:
        return [json.dumps(choice) for choice in self.choices or ()]

    def _rounded(self, number: float) -> float:
        scale = abs(number) if self.log else self.high - self.low
        return round(number, DIGITS - 1 - math.floor(math.log10(scale))) if scale else number


def parse_space(parameters: Mapping[str, Any], present: Mapping[str, Any], prefix: str) -> tuple[Parameter, ...]:
    """The parameters of a search's config; those that are null are left out.

    Args:
        parameters: by dotted key.
        present: the present value of each key in the configuration.
        prefix: of error messages: ``search=classifier``.

    Raises:
        LacunaError: a parameter with neither a valid range nor choices; no parameters.
    """
    found = [_parse(key, spec, present[key], prefix) for key, spec in parameters.items() if spec is not None]
    if not found:
        raise LacunaError(f"{prefix}: search.parameters has no parameter to search: give one of its keys a range.")
    return tuple(found)


def _parse(key: str, spec: Any, old: Any, prefix: str) -> Parameter:
    if isinstance(spec, Mapping) and set(spec) == {"choices"}:
        choices = spec["choices"]
        texts = [json.dumps(choice) for choice in choices] if isinstance(choices, list) else []
        if len(texts) < 2 or len(set(texts)) < len(texts):
            raise LacunaError(f"{prefix}: {key} needs at least two different choices, as in {{choices: [16, 32]}}.")
        return Parameter(key, choices=tuple(choices))
    if not isinstance(spec, Mapping) or not {"low", "high"} <= set(spec) <= set(RANGE_KEYS):
        raise LacunaError(
            f"{prefix}: {key} needs {{low: ..., high: ...}}, with log: true or a step, or {{choices: [...]}}."
        )
    return _range(key, dict(spec), old, prefix)


def _range(key: str, spec: dict[str, Any], old: Any, prefix: str) -> Parameter:
    low, high, log, step = spec["low"], spec["high"], spec.get("log", False), spec.get("step")
    numbers = [low, high] if step is None else [low, high, step]
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise LacunaError(f"{prefix}: low, high and step of {key} must be numbers.")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise LacunaError(
            f"{prefix}: log of {key} must be true or false; if true, low must be above 0 and step must be left out."
        )
    if low >= high or (step is not None and not 0 < step <= high - low):
        raise LacunaError(f"{prefix}: low of {key} must be below high, and step must fit between them.")
    all_whole = all(isinstance(number, int) for number in numbers)
    whole = all_whole and (old is None or isinstance(old, int))
    if isinstance(old, int) and not isinstance(old, bool) and not all_whole:
        raise LacunaError(
            f"{prefix}: low, high and step of {key} must be whole numbers, because its value is one (now {old})."
        )
    if step is not None:  # the last value that the steps reach; Optuna warns of any other
        high = low + math.floor((high - low) / step + 1e-9) * step
    return Parameter(key, low, high, log, step, whole)
