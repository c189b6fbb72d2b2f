"""DensityMean: imputes the density's expectation, or the mean of its most probable component."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lacuna.densities.base import Density
from lacuna.errors import LacunaError
from lacuna.imputers.density_mean import DensityMean
from lacuna.mfa import MFA
from tests.dense import random_images, random_mask, random_mfa

SHAPE = (2, 5, 4)


class Fixed(Density):
    """Three components, conditioned exactly, in pixel units around 0.5."""

    def forward(self, observed: Tensor, mask: Tensor) -> MFA:
        mfa = random_mfa(1, 3, 2, SHAPE)
        narrow = MFA(mfa.logits, 0.5 + 0.1 * (mfa.mean - 0.5), 0.1 * mfa.factors, 0.01 * mfa.noise)
        return narrow.condition(observed, mask)


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    return 0.5 + 0.1 * (random_images(5, SHAPE) - 0.5), random_mask(5, SHAPE)


@pytest.mark.parametrize("component", ["mean", "mode"])
def test_imputes_the_mixture_s_mean_or_its_heaviest_component_s(images, component):
    mfa = Fixed()(*images)
    heaviest = mfa.weights.argmax(1)
    expected = {
        "mean": (mfa.weights[:, :, None, None, None] * mfa.mean).sum(1),
        "mode": torch.stack([mfa.mean[i, k] for i, k in enumerate(heaviest)]),
    }[component]
    found = DensityMean(Fixed(), component).impute(*images)
    torch.testing.assert_close(found, torch.where(images[1], images[0], expected))


def test_samples_surround_the_mean(images):
    imputer = DensityMean(Fixed())
    torch.manual_seed(0)
    drawn = imputer.sample(*images, 4000)
    error = drawn.std(0) / math.sqrt(4000)
    assert ((drawn.mean(0) - imputer.impute(*images)).abs() <= 4.5 * error + 1e-9).all()


def test_no_other_imputation_has_a_smaller_expected_squared_error(images):
    drawn = DensityMean(Fixed()).sample(*images, 2000)
    errors = {name: (drawn - DensityMean(Fixed(), name).impute(*images)).square().mean() for name in ("mean", "mode")}
    assert errors["mean"] <= errors["mode"]


def test_an_unknown_component_is_refused():
    with pytest.raises(LacunaError, match=r"imputer\.component='median' is neither 'mean' nor 'mode'"):
        DensityMean(Fixed(), "median")
