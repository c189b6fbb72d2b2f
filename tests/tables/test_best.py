"""Who wins: a false winner is as rare as promised, nobody wins by one seed, and order changes nothing."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from lacuna.tables.best import BEST, TIE, marks
from lacuna.tables.significance import Sample

SEED = 20261120


def of(values: np.ndarray) -> Sample:
    return Sample(float(values.mean()), float(values.std(ddof=1)), len(values))


def false_wins(rows: int, draw, trials: int = 3000) -> float:
    return sum(BEST in marks([draw() for _ in range(rows)], "max") for _ in range(trials)) / trials


# Standard error of the share of false wins among 3000 trials, at 5 %.
ERROR = math.sqrt(0.05 * 0.95 / 3000)


def test_among_two_equal_ones_one_in_twenty_wins() -> None:
    """Exact for many seeds; for few, Welch's test errs on the safe side when the spreads are equal."""
    rng = np.random.default_rng(SEED)
    assert abs(false_wins(2, lambda: of(rng.normal(0, 1, 12))) - 0.05) < 4 * ERROR
    assert false_wins(2, lambda: of(rng.normal(0, 1, 3))) < 0.05 + 4 * ERROR


@pytest.mark.parametrize("rows", [3, 6])
def test_among_more_equal_ones_a_winner_is_rarer_still(rows: int) -> None:
    """So nothing need be corrected for the number of rows."""
    rng = np.random.default_rng(SEED)
    assert false_wins(rows, lambda: of(rng.normal(0, 1, 5))) < 0.05


def test_the_clearly_better_wins_alone() -> None:
    samples = [Sample(0.90, 0.004, 3), Sample(0.95, 0.004, 3), Sample(0.80, 0.004, 3)]
    assert marks(samples, "max") == ["", BEST, ""]
    assert marks(samples, "min") == ["", "", BEST]


def test_what_cannot_be_told_from_the_best_is_marked_with_it() -> None:
    samples = [Sample(0.90, 0.004, 3), Sample(0.901, 0.004, 3), Sample(0.80, 0.004, 3)]
    assert marks(samples, "max") == [TIE, TIE, ""]
    assert marks([Sample(0.5, 0.01, 3)] * 2, "max") == [TIE, TIE]


def test_a_hole_may_be_better_than_all() -> None:
    samples = [Sample(0.95, 0.004, 3), Sample(0.80, 0.004, 3)]
    assert marks(samples, "max") == [BEST, ""]
    assert marks([*samples, None], "max") == [TIE, "", ""]


def test_a_cell_alone_wins_nothing() -> None:
    assert marks([Sample(0.9, 0.1, 3)], "max") == [""]
    assert marks([Sample(0.9, 0.1, 3), None], "max") == ["", ""]
    assert marks([], "max") == [] and marks([None, None], "min") == ["", ""]


def test_values_without_any_spread() -> None:
    # what has no randomness in it is better when it is better
    assert marks([Sample(0.25, 0.0, 2), Sample(0.26, 0.0, 2)], "min") == [BEST, ""]
    # two seeds that happen to agree to the last image have not lost their spread
    assert marks([Sample(0.500, 0.0, 2, 500), Sample(0.502, 0.0, 2, 500)], "max") == [TIE, TIE]
    assert marks([Sample(0.500, 0.0, 2, 500), Sample(0.600, 0.0, 2, 500)], "max") == ["", BEST]


def test_order_sign_and_scale_change_nothing() -> None:
    rng = random.Random(SEED)
    samples = [Sample(rng.gauss(10, 1), rng.uniform(0.1, 1), rng.randint(2, 5)) for _ in range(4)]
    given = marks(samples, "max")
    for order in itertools.permutations(range(4)):
        assert marks([samples[i] for i in order], "max") == [given[i] for i in order]
    assert marks([Sample(-s.mean, s.sd, s.n) for s in samples], "min") == given
    assert marks([Sample(100 + 7 * s.mean, 7 * s.sd, s.n) for s in samples], "max") == given
