"""Halves, rectangles and mixtures of schemes; the laws of all schemes are in laws/test_masks.py."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from lacuna.data.masks import Bernoulli, MaskScheme, Square
from lacuna.data.mixtures import Half, Mixture, Rectangle
from lacuna.errors import LacunaError


def missing(scheme: MaskScheme, n: int, height: int, width: int) -> Tensor:
    return ~scheme(torch.arange(n), (1, height, width), seed=0, split="train")[:, 0]


def chi2(counts: Tensor) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


def test_halves_are_the_four_halves_equally_often():
    found = missing(Half(), 4000, 6, 8)
    upper, left = torch.zeros(6, 8, dtype=torch.bool), torch.zeros(6, 8, dtype=torch.bool)
    upper[:3], left[:, :4] = True, True
    counts = torch.stack([(found == half).all(2).all(1).sum() for half in (upper, ~upper, left, ~left)])
    assert counts.sum() == 4000
    assert chi2(counts) < 16.3  # the 99.9 % point of chi2 with 3 degrees of freedom


def test_every_allowed_rectangle_is_equally_likely():
    scheme = Rectangle(0.3, 0.6)
    found = missing(scheme, 20_000, 4, 5)
    counts = []
    for (top, bottom), (left, right) in itertools.product(
        itertools.combinations(range(5), 2), itertools.combinations(range(6), 2)
    ):
        if 0.3 <= (bottom - top) * (right - left) / 20 <= 0.6:
            one = torch.zeros(4, 5, dtype=torch.bool)
            one[top:bottom, left:right] = True
            counts.append((found == one).all(2).all(1).sum())
    assert sum(counts) == 20_000  # it is one of them, and nothing else
    assert len(counts) == 43 and chi2(torch.stack(counts)) < 76.1  # 99.9 %, 42 degrees of freedom


def test_a_mixture_has_the_masks_of_its_schemes_in_proportion():
    spec = [{"type": "masks.Square", "weight": 3}, {"type": "masks.Bernoulli", "rate": 0.5}]
    found = missing(Mixture(spec), 4000, 8, 8)
    rows, columns = found.any(2).sum(1), found.any(1).sum(1)
    squares = (rows == 4) & (columns == 4) & (found.flatten(1).sum(1) == 16)
    assert abs(squares.double().mean() - 0.75) < 4.5 * (0.75 * 0.25 / 4000) ** 0.5
    assert abs(found[~squares].double().mean() - 0.5) < 4.5 * 0.5 / (64 * 1000) ** 0.5
    # the choice has nothing to do with what is drawn
    assert len(torch.unique(found[squares].flatten(1), dim=0)) == 25


def test_a_mixture_of_one_is_that_scheme_on_its_own_numbers():
    one = Mixture([{"type": "masks.Square", "fraction": 0.25}])
    other = Mixture([{"type": "masks.Square", "fraction": 0.25}, {"type": "masks.Square", "fraction": 0.25}])
    assert torch.equal(missing(one, 50, 8, 8), missing(other, 50, 8, 8))
    assert one.components == (Square(0.25),)


def test_masks_of_all_channels_and_of_each_may_be_mixed():
    spec = [{"type": "masks.Square"}, {"type": "masks.Bernoulli", "rate": 0.5, "per_channel": True}]
    mask = Mixture(spec)(torch.arange(50), (3, 8, 8), seed=0, split="train")
    assert mask.shape == (50, 3, 8, 8)
    alike = (mask[:, :1] == mask).flatten(1).all(1)
    assert 10 < alike.sum() < 40
    assert isinstance(Mixture(spec).components[1], Bernoulli)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (0.6, 0.3)])
def test_wrong_ranges_are_refused(shares):
    with pytest.raises(LacunaError, match=r"mask\.smallest=.* the first must be less"):
        Rectangle(*shares)


def test_ranges_without_a_rectangle_are_refused():
    with pytest.raises(LacunaError, match="allow no rectangle of an image of 2x2 pixels"):
        missing(Rectangle(0.6, 0.9), 1, 2, 2)


@pytest.mark.parametrize(
    "schemes", [[], [{"type": "masks.Square", "weight": 0}], [{"type": "masks.Square", "weight": 0.5}]]
)
def test_an_empty_mixture_is_refused(schemes):
    with pytest.raises(LacunaError, match=r"mask\.schemes=.* must be one or more schemes"):
        Mixture(schemes)
