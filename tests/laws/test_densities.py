"""The laws of every density. A new one is one line in DENSITIES."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lacuna.densities.base import Density
from lacuna.densities.dmfa import DMFA
from lacuna.densities.em import fit
from lacuna.densities.smfa import SMFA
from lacuna.mfa import MFA
from tests.dense import random_images, random_mask
from tests.laws.guard import assert_all_listed

SHAPE = (2, 8, 7)
LINEAR = {"type": "density_net.LinearHeads", "filters": [4, 4], "kernels": [3, 3]}
CONVOLUTIONAL = {
    "type": "density_net.FullyConvolutional",
    "encoder": [[4, 1], [4, 1]],
    "middle": [6, 1],
    "decoder": [[4, 1], [4, 1]],
}
RESIDUAL = {"type": "residual_net.ResidualUNet", "stages": [[4, 1], [6, 1]]}


def smfa(**options: Any) -> SMFA:
    """Fitted to a few images."""
    made, (observed, mask) = SMFA(SHAPE, components=3, factors=2, **options), incomplete(60, seed=5)
    made.start(observed, mask, seed=int(torch.randint(1000, ())))
    fit(made, [(observed, mask)], passes=3)
    return made


# name -> a new density for images of SHAPE
DENSITIES: dict[str, Callable[[], Density]] = {
    "dmfa-linear": lambda: DMFA(SHAPE, LINEAR),
    "dmfa-linear-mixture": lambda: DMFA(SHAPE, LINEAR, components=3, factors=2),
    "dmfa-diagonal": lambda: DMFA(SHAPE, LINEAR, components=2, factors=0),
    "dmfa-convolutional": lambda: DMFA(SHAPE, CONVOLUTIONAL),
    "dmfa-convolutional-mixture": lambda: DMFA(SHAPE, CONVOLUTIONAL, components=3, factors=2),
    "dmfa-residual": lambda: DMFA(SHAPE, RESIDUAL),
    "dmfa-residual-mixture": lambda: DMFA(SHAPE, RESIDUAL, components=2, factors=2),
    "dmfa-authors": lambda: DMFA(SHAPE, {**CONVOLUTIONAL, "variant": "authors"}),
    "smfa": smfa,
    "smfa-authors": lambda: smfa(isotropic=True, keep=1, covariance="authors"),
}


def test_every_density_is_here():
    assert_all_listed(Density, (made() for made in DENSITIES.values()), "DENSITIES in tests/laws/test_densities.py")


@pytest.fixture(params=DENSITIES)
def density(request: pytest.FixtureRequest) -> Density:
    torch.manual_seed(0)
    made = DENSITIES[request.param]()
    norms = [module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:  # statistics that fit the images, as after training
        norm.momentum = 1.0
    made.train()(*incomplete(16, seed=9))
    for norm in norms:
        norm.momentum = 0.1
    return made.eval()


def incomplete(n: int, seed: int = 1, per_channel: bool = False) -> tuple[Tensor, Tensor]:
    """Images with zeros at missing pixels, and their masks."""
    mask = random_mask(n, SHAPE, per_channel=per_channel, seed=seed + 1)
    return torch.where(mask, random_images(n, SHAPE, seed=seed).float(), 0), mask


def parts(mfa: MFA) -> tuple[Tensor, ...]:
    return mfa.weights, mfa.mean, mfa.factors, mfa.noise


@pytest.mark.parametrize("per_channel", [False, True])
def test_shapes_and_ranges(density, per_channel):
    mfa = density(*incomplete(4, per_channel=per_channel))
    assert mfa.mean.shape[2:] == SHAPE and len(mfa) == 4
    assert {part.dtype for part in parts(mfa)} == {torch.float32}
    assert all(part.isfinite().all() for part in parts(mfa))
    missing = ~incomplete(4, per_channel=per_channel)[1].expand(-1, *SHAPE)
    assert (mfa.noise.movedim(1, 0)[:, missing] > 0).all(), "noise must be positive at missing pixels"


def test_depends_on_observed_values_and_mask(density):
    observed, mask = incomplete(4)
    mfa = density(observed, mask)
    missing = ~mask[:, None].expand_as(mfa.mean)
    other = density(torch.where(mask, 1 - observed, 0), mask)
    assert not torch.allclose(other.mean[missing], mfa.mean[missing])
    fewer = mask & random_mask(4, SHAPE, seed=11)
    assert not torch.allclose(density(torch.where(fewer, observed, 0), fewer).mean[missing], mfa.mean[missing])


def test_pinned_it_is_the_image_where_that_was_observed(density):
    observed, mask = incomplete(4, per_channel=True)
    mfa = density(observed, mask).pin(observed, mask)
    torch.testing.assert_close(torch.where(mask, mfa.expectation(), 0), observed)
    torch.testing.assert_close(torch.where(mask, mfa.variance(), 0), torch.zeros_like(observed))
    missing = ~mask
    assert (mfa.variance()[missing] > 0).all()


def test_images_of_a_batch_are_independent(density):
    observed, mask = incomplete(6)
    whole = density(observed, mask)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    for a, b in zip(parts(density(observed[order], mask[order])), parts(whole[order]), strict=True):
        torch.testing.assert_close(a, b)
    split = MFA.cat([density(observed[:1], mask[:1]), density(observed[1:], mask[1:])])
    for a, b in zip(parts(split), parts(whole), strict=True):
        torch.testing.assert_close(a, b)


def test_channels_last_changes_nothing(density):
    observed, mask = incomplete(3)
    last = density(observed.to(memory_format=torch.channels_last), mask)
    for a, b in zip(parts(last), parts(density(observed, mask)), strict=True):
        torch.testing.assert_close(a, b)


def test_a_mask_shared_by_the_channels_and_repeated_for_each_are_the_same(density):
    observed, mask = incomplete(3)
    for a, b in zip(parts(density(observed, mask.expand_as(observed))), parts(density(observed, mask)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("everything", [False, True])
def test_extremes_of_the_mask(density, everything):
    mask = torch.full((2, 1, *SHAPE[1:]), everything)
    observed = torch.where(mask, random_images(2, SHAPE).float(), 0)
    mfa = density(observed, mask)
    assert all(part.isfinite().all() for part in parts(mfa))
    assert mfa.pin(observed, mask).log_prob(observed, ~mask).isfinite().all()


def test_the_likelihood_of_missing_pixels_is_finite_and_trains_every_parameter(density):
    density.train()
    truth = random_images(8, SHAPE).float()
    mask = random_mask(8, SHAPE)
    log_prob = density(torch.where(mask, truth, 0), mask).log_prob(truth, ~mask)
    assert log_prob.shape == (8,) and log_prob.isfinite().all()
    if log_prob.requires_grad:  # SMFA has no parameters: EM fits it
        (-log_prob.mean()).backward()
    for name, parameter in density.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any() or parameter.numel() == 0, name


def test_evaluation_changes_nothing(density):
    before = {key: value.clone() for key, value in density.state_dict().items()}
    density(*incomplete(4))
    assert all(torch.equal(value, before[key]) for key, value in density.state_dict().items())


def test_state_dict_round_trip(density, request):
    torch.manual_seed(1)
    twin = DENSITIES[request.node.callspec.params["density"]]().eval()
    twin.load_state_dict(density.state_dict())
    for a, b in zip(parts(twin(*incomplete(3))), parts(density(*incomplete(3))), strict=True):
        assert torch.equal(a, b)


def test_samples_are_images_around_the_expectation(density):
    observed, mask = incomplete(2)
    with torch.no_grad():
        mfa = density(observed, mask).pin(observed, mask)
        drawn = mfa.sample(2000, torch.Generator().manual_seed(0))
    error = mfa.variance().sqrt() / math.sqrt(2000)
    assert ((drawn.mean(0) - mfa.expectation()).abs() <= 4.5 * error + 1e-6).all()
