"""Dequantising and the logit: levels stay in their bins, and densities of logits are probabilities of levels."""

from __future__ import annotations

import math

import pytest
import torch

from lacuna.errors import LacunaError
from lacuna.flows.logit import Logit


def pixels(levels: int) -> torch.Tensor:
    """Every level as it is stored: in whole bytes."""
    return (torch.arange(levels, dtype=torch.float64) * (255 / (levels - 1))).round() / 255


@pytest.mark.parametrize("levels", [2, 4, 17, 32, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_level_comes_back_from_anywhere_in_its_bin(levels, dtype):
    logit, x = Logit(levels), pixels(levels).to(dtype)
    exact = (torch.arange(levels) / (levels - 1)).to(dtype)
    inside = (0.5,) if dtype == torch.float32 else (0.0, 0.3, 0.999)
    for noise in inside:
        y = logit.dequantised(x, torch.full_like(x, noise + 1e-9 if dtype == torch.float64 else noise))
        torch.testing.assert_close(logit.rounded(y), exact)
    torch.testing.assert_close(logit.image(logit.centred(exact)), exact, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        logit.dequantised(x, torch.full_like(x, 0.5)), logit.centred(exact), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("bits", [5, 8])
def test_powers_of_two_are_the_published_quantisation(bits):
    """floor(byte / 2^(8 - bits)), noise, / 2^bits, 0.9 of the unit interval, logit: written out."""
    byte = torch.arange(256, dtype=torch.float64)
    noise = torch.rand(256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = ((byte / 2 ** (8 - bits)).floor() + noise) / 2**bits
    s = ((2 * u - 1) * 0.9 + 1) / 2
    torch.testing.assert_close(Logit(2**bits).dequantised(byte / 255, noise), s.log() - (1 - s).log())


@pytest.mark.parametrize("levels", [17, 256])
def test_the_log_determinant_is_the_derivative_by_the_level(levels):
    logit = Logit(levels)
    noise = torch.rand(levels, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    y = logit.dequantised(pixels(levels), noise)
    (slope,) = torch.autograd.grad(y.sum(), noise)
    torch.testing.assert_close(logit.log_det(y.detach()), slope.log())


def test_log_odds_are_bounded_by_the_constraint():
    x = torch.tensor([0.0, 1.0], dtype=torch.float64)
    y = Logit(256, 0.9).dequantised(x, torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(y, torch.tensor([-1.0, 1.0], dtype=torch.float64) * math.log(0.95 / 0.05))


def test_any_logits_become_an_image():
    y = torch.tensor([-1e4, -3.0, 0.0, 3.0, 1e4])
    for x in (Logit().image(y), Logit(17).rounded(y)):
        assert x[0] == 0 and x[-1] == 1 and ((x >= 0) & (x <= 1)).all()


@pytest.mark.parametrize("levels", [1, 257, 2.5, "8"])
def test_impossible_levels_are_refused(levels):
    with pytest.raises(LacunaError, match=r"flow\.levels=.* must be a whole number from 2 to 256"):
        Logit(levels)


@pytest.mark.parametrize("constraint", [0, 1, -0.5])
def test_an_impossible_constraint_is_refused(constraint):
    with pytest.raises(LacunaError, match=r"flow\.constraint=.* must lie between 0 and 1"):
        Logit(256, constraint)
