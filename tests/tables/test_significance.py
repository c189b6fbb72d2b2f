"""Intervals are the textbook's, and a table of several differences is wrong as rarely as promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lacuna.tables.significance import (
    LEVEL,
    Difference,
    Sample,
    corrected_intervals,
    difference,
    difference_to,
    holm,
)

SEED = 20261120


def of(values: np.ndarray) -> Sample:
    return Sample(float(values.mean()), float(values.std(ddof=1)), len(values))


def some(rng: np.random.Generator, n: int) -> list[Difference | None]:
    """Differences from nothing to many errors, one in eight unknown."""
    sizes = rng.choice([0.0, 1.0, 4.0, 9.0], n)
    return [
        None if rng.random() < 1 / 8 else Difference(size * rng.normal(1, 0.5), rng.uniform(0.5, 2), rng.integers(2, 9))
        for size in sizes
    ]


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 3), (2, 7), (10, 4)])
@pytest.mark.parametrize("level", [0.05, 0.05 / 15])
def test_two_samples_are_compared_by_welch(n: int, m: int, level: float) -> None:
    rng = np.random.default_rng(SEED)
    a, b = rng.normal(0.9, 0.01, n), rng.normal(0.85, 0.05, m)
    theirs, ours = stats.ttest_ind(a, b, equal_var=False), difference(of(a), of(b))
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.interval(level) == pytest.approx(tuple(theirs.confidence_interval(1 - level)))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_sample_is_compared_with_a_number_by_student(n: int) -> None:
    values = np.random.default_rng(SEED).normal(0.9, 0.01, n)
    theirs, ours = stats.ttest_1samp(values, 0.88), difference_to(of(values), 0.88)
    low, high = theirs.confidence_interval(0.95)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.interval() == pytest.approx((low - 0.88, high - 0.88))


def test_one_value_is_no_sample() -> None:
    with pytest.raises(ValueError, match="two seeds"):
        Sample(0.9, 0.0, 1)


def test_values_without_any_spread() -> None:
    same, other = Sample(0.25, 0.0, 2), Sample(0.26, 0.0, 3)
    assert difference(same, same).p_value == 1 and difference(same, same).interval() == (0, 0)
    assert difference(other, same).p_value == 0 and difference(other, same).interval() == (0.26 - 0.25,) * 2
    # seeds that agree to the last of 500 images are known to half an image, as if uniform within it
    one = difference_to(Sample(0.5, 0.0, 3, images=500), 0.4)
    assert one.error == pytest.approx(1 / 500 / math.sqrt(12) / math.sqrt(3)) and one.freedom == 2


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_holm_finds_what_its_adjusted_p_values_say(n: int) -> None:
    """These are the running maximum of (m - k) p over the sorted ones, k from 0."""
    rng = np.random.default_rng(SEED)
    for _ in range(50):
        p = rng.uniform(0, 1, n) ** 4
        order = np.argsort(p)
        adjusted = np.empty(n)
        adjusted[order] = np.maximum.accumulate((n - np.arange(n)) * p[order])
        assert holm(list(p)) == list(adjusted <= LEVEL)
    assert holm([]) == []
    # the textbook's: .01 <= .05/4, .015 <= .05/3, .03 > .05/2; .04 is not looked at
    assert holm([0.04, 0.01, 0.03, 0.015]) == [False, True, False, True]


def test_intervals_leave_out_zero_where_holm_finds_a_difference() -> None:
    rng = np.random.default_rng(SEED)
    both = set()
    for _ in range(200):
        found = some(rng, int(rng.integers(1, 13)))
        rejected = holm([1.0 if one is None else one.p_value for one in found])
        for one, significant, interval in zip(found, rejected, corrected_intervals(found), strict=True):
            assert (interval is None) == (one is None)
            if one is not None and interval is not None:
                assert (interval[0] > 0 or interval[1] < 0) == significant
                # never narrower than the interval of this difference alone, never wider than Bonferroni's
                alone, widest = one.interval(LEVEL), one.interval(LEVEL / len(found))
                assert widest[0] <= interval[0] <= alone[0] and alone[1] <= interval[1] <= widest[1]
                both.add(significant)
    assert both == {True, False}


def test_more_differences_never_make_an_interval_narrower() -> None:
    rng = np.random.default_rng(SEED)
    for _ in range(200):
        found = some(rng, int(rng.integers(2, 13)))
        fewer, more = corrected_intervals(found[:-1]), corrected_intervals(found)
        for few, many in zip(fewer, more[:-1], strict=True):
            if few is not None and many is not None:
                assert many[0] <= few[0] and few[1] <= many[1]


def test_one_difference_has_the_plain_interval_and_order_changes_nothing() -> None:
    rng = np.random.default_rng(SEED)
    one = Difference(1.0, 0.4, 4)
    assert corrected_intervals([one]) == [one.interval(LEVEL)] and corrected_intervals([]) == []
    found = some(rng, 9)
    order = rng.permutation(9)
    given = corrected_intervals(found)
    assert corrected_intervals([found[i] for i in order]) == [given[i] for i in order]


# Standard error of a share of 5 % among 3000 trials.
TRIALS = 3000
ERROR = math.sqrt(0.05 * 0.95 / TRIALS)


def simulated(true: list[float], n: int, rng: np.random.Generator) -> list[Difference | None]:
    """One method against several of the same column, whose true means lie ``true`` below its own."""
    hero = of(rng.normal(0, 1, n))
    return [difference(hero, of(rng.normal(-gap, 1, n))) for gap in true]


@pytest.mark.parametrize(("n", "gaps"), [(3, 4), (5, 12)])
def test_where_no_two_methods_differ_a_table_rarely_finds_a_difference(n: int, gaps: int) -> None:
    """At most 5 % of the tables have any; without the correction many more would."""
    rng = np.random.default_rng(SEED)
    corrected = alone = 0
    for _ in range(TRIALS):
        found = simulated([0.0] * gaps, n, rng)
        corrected += any(i is not None and not i[0] <= 0 <= i[1] for i in corrected_intervals(found))
        alone += any(one is not None and one.p_value <= LEVEL for one in found)
    assert corrected / TRIALS < 0.05 + 4 * ERROR < alone / TRIALS


def test_where_some_differ_a_true_difference_is_rarely_denied() -> None:
    """Neither kind of error in more than 5 % of the tables: 0 left out where it is true, a true gap where 0 is in."""
    rng = np.random.default_rng(SEED)
    true = [0.0, 0.0, 1.5, 1.5, 3.0, 3.0, 6.0, 6.0]
    invented = denied = seen = 0
    for _ in range(TRIALS):
        given = [i for i in corrected_intervals(simulated(true, 5, rng)) if i is not None]
        with_zero = [low <= 0 <= high for low, high in given]
        inside = [low <= gap <= high for gap, (low, high) in zip(true, given, strict=True)]
        invented += any(not zero for gap, zero in zip(true, with_zero, strict=True) if gap == 0)
        denied += any(zero and not there for zero, there in zip(with_zero, inside, strict=True))
        seen += sum(not zero for zero in with_zero)
    assert invented / TRIALS < 0.05 + 4 * ERROR and denied / TRIALS < 0.05 + 4 * ERROR
    assert seen / TRIALS > 2  # it does find differences
