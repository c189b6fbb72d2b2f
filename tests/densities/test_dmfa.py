"""DMFA: ranges of its outputs, and learning."""

from __future__ import annotations

import math

import pytest
import torch

from lacuna.densities.dmfa import DMFA
from lacuna.errors import LacunaError
from tests.dense import random_images, random_mask

SHAPE = (2, 8, 8)
NET = {"type": "density_net.LinearHeads", "filters": [4, 4], "kernels": [3, 3]}


def make(**options) -> DMFA:
    torch.manual_seed(0)
    return DMFA(SHAPE, options.pop("net", NET), **options)


def blow_up(model: DMFA, factor: float) -> None:
    """Weights so large that every sigmoid saturates."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)


@pytest.mark.parametrize("factor", [1.0, 1e3])
def test_predictions_stay_in_their_ranges(factor):
    model = make(components=2, factors=3, factor_range=0.2, noise_floor=1e-3, noise_ceiling=0.5)
    blow_up(model, factor)
    mfa = model(random_images(4, SHAPE).float(), random_mask(4, SHAPE))
    assert mfa.factors.abs().max() <= 0.1 * (1 + 1e-6)
    assert mfa.noise.min() >= 1e-3 * (1 - 1e-6) and mfa.noise.max() <= 0.5 * (1 + 1e-6)
    torch.testing.assert_close(mfa.weights.sum(1), torch.ones(4))
    if factor > 1:
        assert mfa.factors.abs().max() > 0.099 and mfa.noise.min() < 1.1e-3 and mfa.noise.max() > 0.49
        assert mfa.mean.min() < -1 and mfa.mean.max() > 2, "the mean is linear, as published"


def test_initial_noise_is_in_the_middle_of_its_range_and_the_default_floor_is_that_of_8_bit_images():
    mfa = make()(random_images(4, SHAPE).float(), random_mask(4, SHAPE))
    assert mfa.noise.mean().item() == pytest.approx(0.5, abs=0.05)
    model = make()
    with torch.no_grad():
        model.net.noise.bias.fill_(-1e4)
    floor = model(random_images(1, SHAPE).float(), random_mask(1, SHAPE)).noise
    assert floor.max().item() == pytest.approx(1 / (12 * 255**2), rel=1e-5)


def test_predictions_are_single_precision_under_autocast():
    model = make(components=2).eval()
    with torch.autocast("cpu", torch.bfloat16):
        mfa = model(random_images(2, SHAPE).float(), random_mask(2, SHAPE))
    assert {part.dtype for part in (mfa.logits, mfa.mean, mfa.factors, mfa.noise)} == {torch.float32}


def test_one_component_has_weight_one():
    assert (make()(random_images(2, SHAPE).float(), random_mask(2, SHAPE)).weights == 1).all()


def test_learns_a_distribution_of_two_kinds_of_images():
    """Images are all bright or all dark, nothing is observed: two components find both, one cannot."""
    shape, results = (1, 4, 4), {}
    bright = torch.arange(40).view(-1, 1, 1, 1) % 10 < 3
    noise = 0.03 * torch.randn(40, *shape, generator=torch.Generator().manual_seed(1))
    x = torch.where(bright, 0.8, 0.2) + noise
    nothing = torch.zeros(40, 1, 4, 4, dtype=torch.bool)
    for k in (1, 2):
        torch.manual_seed(0)
        model = DMFA(shape, {"type": "density_net.LinearHeads", "filters": [4], "kernels": [3]}, k, 0)
        with torch.no_grad():
            model.net.mean.bias.uniform_(0, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(150):
            optimizer.zero_grad()
            loss = -model(torch.zeros_like(x), nothing).log_prob(x, ~nothing).mean() / 16
            loss.backward()
            optimizer.step()
        results[k] = loss.item()
        weights = model(torch.zeros_like(x[:1]), nothing[:1]).weights[0].sort().values
    # entropy per pixel: the noise's, plus the choice of the kind spread over 16 pixels
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.03**2)
    assert results[2] < entropy + 0.7 / 16 + 0.1 < results[1]
    assert weights[0].item() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 0}, "density.components=0: a mixture has at least one component"),
        ({"factors": -1}, "density.factors=-1: the number of factors is 0 or more"),
        ({"noise_floor": 0.0}, "density.noise_floor=0.0 must lie between 0 and density.noise_ceiling"),
        ({"noise_floor": 2.0}, "density.noise_floor=2.0 must lie between"),
        ({"net": {"type": "density_net.Nothing"}}, "defines no class Nothing"),
        ({"net": {**NET, "width": 3}}, "unexpected keyword argument 'width'"),
    ],
    ids=str,
)
def test_mistakes_are_named(options, message):
    with pytest.raises(LacunaError, match=message):
        make(**options)
