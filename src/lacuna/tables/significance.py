"""Intervals of differences of means over seeds, and Holm's correction for several differences.

The only uncertainty considered is that of the seed. There is no interval for single runs, whatever the number of test
images: the sampling error of an accuracy does not tell what another seed would give.

* Two methods: Welch's t (Welch, Biometrika 1947). Its level is approximate. In simulations with normal values, the
  same number of seeds (2, 3 or 5) and spreads within a factor of three, the error rate is at most 1.1 times the level
  of 5 % and 1.4 times the level of 0.4 %. With 2 seeds against 5, and three times the spread in the 2: 2 times at 5 %,
  9 times at 0.4 %.
* A method and a fixed number: Student's t.
* Several differences: Holm's step-down procedure (Holm, Scandinavian Journal of Statistics 1979). The probability that
  it calls any true difference of 0 significant is at most the level, however the differences depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.05
RESOLUTION = 1 / 12
"""Variance of rounding to whole steps: the least spread, also of seeds with equal accuracies."""
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
            raise ValueError(f"n={self.n}: a spread needs at least two seeds.")

    @property
    def squared_error(self) -> float:
        """Squared standard error of the mean."""
        return max(self.sd**2, RESOLUTION / self.images**2 if self.images else 0.0) / self.n


@dataclass(frozen=True)
class Difference:
    """A difference of means.

    Args:
        value: the difference.
        error: its standard error; 0 if nothing varies, so that the difference is exact.
        freedom: degrees of freedom of its t distribution.
    """

    value: float
    error: float
    freedom: float

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the hypothesis that the difference is 0."""
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
    """``a`` minus ``b``, with Welch's degrees of freedom."""
    parts = ((a.squared_error, a.n - 1), (b.squared_error, b.n - 1))
    total = sum(square for square, _ in parts)
    freedom = total**2 / sum(square**2 / free for square, free in parts) if total else math.inf
    return Difference(a.mean - b.mean, math.sqrt(total), freedom)


def difference_to(a: Sample, number: float) -> Difference:
    """``a`` minus a number that is taken as exact (Student)."""
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


def corrected_intervals(differences: Sequence[Difference | None], level: float = LEVEL) -> list[Interval | None]:
    """An interval for each of several differences; it excludes 0 exactly if the difference is significant by Holm.

    If r of m differences are significant, their intervals have the level level / (m - r + 1), at which the last of them
    was found. All others have level / m (Bonferroni; Dunn, Journal of the American Statistical Association 1961). These
    contain 0: what is not significant by Holm's procedure is not significant at level / m either. So

    * the probability that any interval excludes 0 although the difference is 0 is at most ``level``;
    * the probability that any interval with 0 in it excludes the true difference is at most ``level``;
    * more differences never shrink an interval.

    Args:
        differences: None for one that is not measured. It counts: m does not depend on what has been measured.
        level: of all intervals together.
    """
    rejected = holm([1.0 if one is None else one.p_value for one in differences], level)
    others = len(differences) - sum(rejected)
    levels = [level / (others + 1 if significant else len(differences)) for significant in rejected]
    return [None if one is None else one.interval(at) for one, at in zip(differences, levels, strict=True)]
