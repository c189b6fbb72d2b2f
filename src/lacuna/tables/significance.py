"""What the spread over seeds says of a difference of means: its interval, and Holm's correction for several of them.

The only uncertainty in here is that of the seed: nothing is said of means of one run each, whatever the number of test
images, for the sampling error of an accuracy does not tell what another seed would give.

* Two methods: Welch's t (Welch, Biometrika 1947). Its level is approximate. Simulated with normal values and the same
  number of seeds (2, 3 or 5), spreads within a factor of three: wrong at most 1.1 times as often as it says at 5 %, 1.4
  times at 0.4 %. With 2 seeds against 5, and three times the spread in those 2: 2 times at 5 %, 9 times at 0.4 %.
* A method and a fixed number: Student's t.
* Several differences: Holm's step-down procedure (Holm, Scandinavian Journal of Statistics 1979). The probability that
  it calls any difference significant which is 0 is at most the level, however the differences depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.05
RESOLUTION = 1 / 12
"""Variance of rounding to whole steps: seeds that agree to the last test image have at least this spread."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """A mean over seeds.

    Args:
        mean: over seeds.
        sd: sample standard deviation over seeds.
        n: seeds, at least 2.
        images: test images if the metric is an accuracy, which moves in steps of 1 / images; None otherwise.
    """

    mean: float
    sd: float
    n: int
    images: int | None = None

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"n={self.n}: nothing is known of the spread over fewer than two seeds.")

    @property
    def squared_error(self) -> float:
        """Of the mean."""
        return max(self.sd**2, RESOLUTION / self.images**2 if self.images else 0.0) / self.n


@dataclass(frozen=True)
class Difference:
    """A difference of means.

    Args:
        value: the difference.
        error: its standard error; 0 where nothing varies, so that the difference is exact.
        freedom: degrees of freedom of its t.
    """

    value: float
    error: float
    freedom: float

    @property
    def p_value(self) -> float:
        """Two-sided, of no difference."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        from scipy.special import stdtr

        return float(2 * stdtr(self.freedom, -abs(self.value) / self.error))

    def margin(self, level: float = LEVEL) -> float:
        """Half the width of the interval that misses the true difference with probability ``level``."""
        if self.error == 0:
            return 0.0
        from scipy.special import stdtrit

        return float(-stdtrit(self.freedom, level / 2)) * self.error

    def interval(self, level: float = LEVEL) -> Interval:
        """The interval itself, (low, high)."""
        margin = self.margin(level)
        return self.value - margin, self.value + margin


def difference(a: Sample, b: Sample) -> Difference:
    """``a`` minus ``b``, by Welch."""
    parts = ((a.squared_error, a.n - 1), (b.squared_error, b.n - 1))
    total = sum(square for square, _ in parts)
    freedom = total**2 / sum(square**2 / free for square, free in parts) if total else math.inf
    return Difference(a.mean - b.mean, math.sqrt(total), freedom)


def difference_to(a: Sample, number: float) -> Difference:
    """``a`` minus a number that is taken as exact, by Student."""
    return Difference(a.mean - number, math.sqrt(a.squared_error), a.n - 1)


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which of several hypotheses Holm's procedure rejects.

    The smallest of m p-values is compared with level / m, the next with level / (m - 1) and so on, up to the first that
    is larger; that one and those behind it are not rejected.
    """
    rejected = [False] * len(p_values)
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] > level / (len(p_values) - rank):
            break
        rejected[i] = True
    return rejected


def corrected_intervals(found: Sequence[Difference | None], level: float = LEVEL) -> list[Interval | None]:
    """An interval for each of several differences: without 0 exactly where Holm's procedure finds the difference.

    If it finds r of m differences, theirs are the intervals of level / (m - r + 1), at which it found the last of them.
    All others have those of level / m (Bonferroni; Dunn, Journal of the American Statistical Association 1961): they
    contain 0, since what Holm's procedure does not find is not found at that level either. So

    * that any interval leaves out 0 though the difference is 0 has a probability of at most ``level``;
    * that any interval with 0 in it leaves out the true difference has a probability of at most ``level``;
    * more differences never make an interval narrower.

    Args:
        found: None for one that is not known (yet). It counts: m does not depend on what has been measured.
    """
    rejected = holm([1.0 if one is None else one.p_value for one in found], level)
    others = len(found) - sum(rejected)
    levels = [level / (others + 1 if significant else len(found)) for significant in rejected]
    return [None if one is None else one.interval(at) for one, at in zip(found, levels, strict=True)]
