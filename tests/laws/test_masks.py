"""The laws of every mask scheme: a pure function of (seed, split, index), the stated share, every position."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from lacuna import registry
from lacuna.data import masks
from lacuna.data.hashing import key
from lacuna.data.masks import Bernoulli, MaskScheme, Noise, NoMask, Square, Trapezoid
from lacuna.data.mixtures import Half, Mixture, Rectangle
from lacuna.errors import LacunaError
from tests.laws.guard import assert_all_listed

SHAPES = [(1, 8, 8), (3, 11, 14)]
SCHEMES: list[MaskScheme] = [
    NoMask(),
    Square(),
    Square(0.9),
    Trapezoid(),
    Trapezoid(0.2),
    Trapezoid(0.85),
    Noise(),
    Noise(0.9),
    Bernoulli(0.1),
    Bernoulli(0.6),
    Bernoulli(0.9, per_channel=True),
    Half(),
    Rectangle(),
    Mixture([{"type": "masks.Square", "weight": 3}, {"type": "masks.Noise"}]),
]
# How many of H x W pixels are missing: the number if it is exact, the probability of each if it is random.
Hidden = Callable[[Any, int, int], float]
EXACT: dict[type[MaskScheme], Hidden] = {
    NoMask: lambda scheme, h, w: 0,
    Square: lambda scheme, h, w: rounded(scheme.fraction * min(h, w)) ** 2,
    Trapezoid: lambda scheme, h, w: rounded(scheme.area * h * w),
    Noise: lambda scheme, h, w: rounded(scheme.rate * h * w),
    Half: lambda scheme, h, w: rounded(h * w / 2),
}
RANDOM: dict[type[MaskScheme], Hidden] = {
    Bernoulli: lambda scheme, h, w: scheme.rate,
    Rectangle: lambda scheme, h, w: rectangles(scheme, h, w),
    Mixture: lambda scheme, h, w: (3 * rounded(0.5 * min(h, w)) ** 2 + rounded(0.75 * h * w)) / 4 / h / w,
}
INDEPENDENT = (Bernoulli,)  # one pixel of another
UNIFORM = (NoMask, Noise, Bernoulli)  # every pixel is missing equally often
every = pytest.mark.parametrize("scheme", SCHEMES, ids=str)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "mask"


def draw(scheme: MaskScheme, n: int | Tensor, shape=(1, 8, 8), seed=0, split="train") -> Tensor:
    return scheme(torch.arange(n) if isinstance(n, int) else n, shape, seed=seed, split=split)


def rounded(value: float) -> int:
    """The nearest whole number, halves upwards."""
    return math.floor(value + 0.5)


def rectangles(scheme: Rectangle, height: int, width: int) -> float:
    """The mean area of all allowed rectangles, by enumeration."""
    ends = itertools.product(itertools.combinations(range(height + 1), 2), itertools.combinations(range(width + 1), 2))
    shares = [(bottom - top) * (right - left) / (height * width) for (top, bottom), (left, right) in ends]
    allowed = [share for share in shares if scheme.smallest <= share <= scheme.largest]
    return sum(allowed) / len(allowed)


def test_every_scheme_is_here():
    assert_all_listed(MaskScheme, SCHEMES, "SCHEMES in tests/laws/test_masks.py")
    assert {type(scheme) for scheme in SCHEMES} == EXACT.keys() | RANDOM.keys(), "a scheme's area is stated once"


@every
@shapes
def test_type_and_shape(scheme, shape):
    mask = draw(scheme, 5, shape)
    channels = shape[0] if getattr(scheme, "per_channel", False) else 1
    assert mask.dtype == torch.bool and mask.shape == (5, channels, *shape[1:])
    assert draw(scheme, 0, shape).shape[0] == 0


@every
@shapes
def test_depends_on_the_index_and_not_on_the_batch(scheme, shape, monkeypatch):
    whole = draw(scheme, 50, shape)
    order = torch.tensor([49, 3, 3, 17, 0])
    assert torch.equal(draw(scheme, order, shape), whole[order])
    assert torch.equal(torch.cat([draw(scheme, torch.tensor([i]), shape) for i in range(50)]), whole)
    monkeypatch.setattr(masks, "_CHUNK", 1)
    assert torch.equal(draw(scheme, 50, shape), whole)


@every
def test_no_generator_is_used_or_moved(scheme):
    torch.manual_seed(0)
    first, state = draw(scheme, 9), torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(draw(scheme, 9), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


@every
def test_seed_split_and_index_each_change_it(scheme):
    if isinstance(scheme, NoMask):
        assert draw(scheme, 9).all()
        return
    base = draw(scheme, 64, (1, 16, 16))
    assert not torch.equal(base, draw(scheme, 64, (1, 16, 16), seed=1))
    assert not torch.equal(base, draw(scheme, 64, (1, 16, 16), split="test"))
    assert len(torch.unique(base.flatten(1), dim=0)) > 3


@every
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (3, 1, 5)], ids=str)
def test_at_least_one_pixel_is_observed(scheme, shape):
    assert draw(scheme, 500, shape).flatten(1).any(1).all()


@pytest.mark.gpu
@every
@shapes
def test_the_same_on_a_gpu(scheme, shape):
    index = torch.arange(500)
    assert torch.equal(draw(scheme, index.cuda(), shape).cpu(), draw(scheme, index, shape))


AREAS = pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 11, 14)], ids=str)


@every
@AREAS
def test_the_missing_area_is_as_specified(scheme, shape):
    missing = ~draw(scheme, 300, shape)
    if type(scheme) in EXACT:
        assert (missing.flatten(1).sum(1) == EXACT[type(scheme)](scheme, *shape[1:])).all()
    else:
        rate = RANDOM[type(scheme)](scheme, *shape[1:])
        draws = missing.numel() if isinstance(scheme, INDEPENDENT) else len(missing)
        assert abs(missing.double().mean() - rate) < 4.5 * math.sqrt(rate * (1 - rate) / draws)
        assert missing.flatten(1).sum(1).double().std() > 1


@every
def test_every_pixel_is_missing_at_times_or_equally_often(scheme):
    n = 4000
    often = (~draw(scheme, n)).double().mean(0)
    if isinstance(scheme, UNIFORM):
        share = often.mean()
        assert (often - share).abs().max() <= 4.5 * math.sqrt(share * (1 - share) / n)
    else:
        assert (often > 0).all()


def test_square_reaches_every_position_equally_often():
    n, positions = 5000, 25
    missing = ~draw(Square(), n)[:, 0]
    top, left = missing.any(2).to(torch.uint8).argmax(1), missing.any(1).to(torch.uint8).argmax(1)
    counts = torch.bincount(top * 5 + left, minlength=positions).double()
    assert len(counts) == positions and (counts > 0).all()
    chi2 = ((counts - n / positions) ** 2 / (n / positions)).sum()
    assert chi2 < 51.2  # the 99.9 % point of chi2 with 24 degrees of freedom
    for r, c, square in zip(top[:20], left[:20], missing[:20], strict=True):  # it is that square and nothing else
        expected = torch.zeros(8, 8, dtype=torch.bool)
        expected[r : r + 4, c : c + 4] = True
        assert torch.equal(square, expected)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.6, 0.9])
@pytest.mark.parametrize("per_channel", [False, True])
def test_bernoulli_rate(rate, per_channel):
    mask = draw(Bernoulli(rate, per_channel), 400, (3, 16, 16))
    bound = 4.5 * math.sqrt(rate * (1 - rate) / mask.numel())
    assert abs((~mask).double().mean() - rate) <= bound
    if per_channel and rate:  # channels are independent: all three missing with probability rate^3
        triple = (~mask).all(1).double()
        assert abs(triple.mean() - rate**3) < 4.5 * math.sqrt(rate**3 / triple.numel())


def test_higher_rates_contain_lower_ones():
    for kind in (Bernoulli, Noise):
        low, high = draw(kind(0.3), 100), draw(kind(0.7), 100)
        assert not (high & ~low).any()


def test_trapezoids_are_convex_inside_and_everywhere():
    missing = ~draw(Trapezoid(), 1500, (1, 20, 20))[:, 0]
    assert missing.any(0).all()  # corners and edges, too
    for axis in (1, 2):  # one run of pixels in every row and column, up to the ties of one last row
        edges = missing.to(torch.int8).diff(dim=axis).abs().sum(axis)
        assert (edges <= 2).all()
    rows, columns = missing.any(2).sum(1), missing.any(1).sum(1)
    assert rows.double().std() > 1 and columns.double().std() > 1
    widths = missing.sum(2).double()
    steps = widths.diff(dim=1)
    assert (steps.abs().sum(1) > 0).all()  # never a plain full-width band


MASK64 = (1 << 64) - 1


def splitmix(x: int) -> int:
    """The finaliser of SplitMix64 on Python integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
    return x ^ (x >> 31)


def scalar(salt: int, index: int, counter: int) -> int:
    state = splitmix((index * 0x9E3779B97F4A7C15 + salt) & MASK64)
    return splitmix((state + (counter + 1) * 0x9E3779B97F4A7C15) & MASK64) & ((1 << 63) - 1)


def test_splitmix_reference_value():
    # first output of the published generator for seed 1234567
    assert splitmix((1234567 + 0x9E3779B97F4A7C15) & MASK64) == 6457827717110365317


def test_values_equal_those_of_plain_integers():
    salt = key(7, "test", "Bernoulli")
    mask = draw(Bernoulli(0.6), torch.tensor([0, 5, 123456]), (1, 3, 4), seed=7, split="test")
    for row, index in zip(mask.flatten(1), (0, 5, 123456), strict=True):
        assert row.tolist() == [scalar(salt, index, pixel) >= int(0.6 * 2**63) for pixel in range(12)]
    salt = key(7, "test", "Square")
    missing = ~draw(Square(), torch.tensor([42]), seed=7, split="test")[0, 0]
    assert missing.nonzero()[0].tolist() == [scalar(salt, 42, 0) % 5, scalar(salt, 42, 1) % 5]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_build(path):
    spec = yaml.safe_load(path.read_text())
    assert spec["name"] == path.stem and isinstance(spec.pop("seed"), int)
    assert isinstance(registry.build("mask", spec), MaskScheme)


@pytest.mark.parametrize("value", [1.2, 1, -0.1, float("nan"), "0.5", None, True])
def test_a_share_outside_its_range_is_refused(value):
    for kind, name in ((Square, "fraction"), (Trapezoid, "area"), (Noise, "rate"), (Bernoulli, "rate")):
        with pytest.raises(LacunaError, match=rf"mask\.{name}={value} must lie in \[0, 1\)"):
            kind(value)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="int64"):
        NoMask()(torch.arange(3).float(), (1, 2, 2), seed=0, split="train")
    with pytest.raises(LacunaError, match="cannot be masked"):
        NoMask()(torch.arange(3), (1, 0, 2), seed=0, split="train")
