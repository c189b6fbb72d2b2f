"""EM with a solution in closed form (one component, complete images), and degenerate images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FactorAnalysis
from torch import Tensor

from lacuna.densities.em import fit
from tests.dense import Dense, random_mask
from tests.densities.mixtures import SHAPE, images, log_likelihood, one_pass, parameters, planted, started

# ---------------------------------------------------------------------- one component, nothing missing


def one_gaussian(n: int = 400) -> tuple[Tensor, Tensor]:
    _, mask = images(planted(k=1), n)
    x = planted(k=1).sample(n, torch.Generator().manual_seed(1))[:, 0]
    return x, torch.ones_like(mask)


def test_one_component_is_factor_analysis():
    x, mask = one_gaussian()
    density = started(x, mask, components=1, factors=2)
    fit(density, [(x, mask)], passes=1500, tolerance=1e-12, complete=True)
    reference = FactorAnalysis(2, svd_method="lapack", tol=1e-12, max_iter=5000).fit(x.flatten(1).numpy())
    found = Dense.of(density.mixture, 0)
    np.testing.assert_allclose(found.means[0], x.flatten(1).mean(0).numpy(), atol=1e-9)
    np.testing.assert_allclose(found.covariances[0], reference.get_covariance(), atol=1e-4)
    assert log_likelihood(density, x, mask) / len(x) == pytest.approx(reference.score(x.flatten(1).numpy()), abs=1e-6)


def test_one_isotropic_component_is_probabilistic_pca():
    """The maximum has a closed form (Tipping and Bishop 1999); scikit-learn divides by n - 1, EM by n."""
    x, mask = one_gaussian()
    density = started(x, mask, components=1, factors=2, isotropic=True)
    fit(density, [(x, mask)], passes=1000, tolerance=1e-13, complete=True)
    reference = PCA(2, svd_solver="full").fit(x.flatten(1).numpy())
    found, n = Dense.of(density.mixture, 0), len(x)
    np.testing.assert_allclose(found.covariances[0], reference.get_covariance() * (n - 1) / n, atol=1e-5)
    assert (density.noise == density.noise.max()).all()
    assert density.noise.mean().item() == pytest.approx(reference.noise_variance_ * (n - 1) / n, rel=1e-5)


def test_no_factors_are_the_pixels_own_moments():
    observed, mask = images(planted(k=1), 100)
    density = started(observed, mask, components=1, factors=0)
    one_pass(density, observed, mask)
    where = mask.expand_as(observed)
    for at in np.ndindex(*SHAPE):
        values = observed[(slice(None), *at)][where[(slice(None), *at)]]
        assert density.mean[(0, *at)].item() == pytest.approx(values.mean().item(), rel=1e-7)
        assert density.noise[(0, *at)].item() == pytest.approx(values.var(correction=0).item(), rel=1e-6)


# ---------------------------------------------------------------------- awkward images


@pytest.mark.parametrize("prior", [0.0, 3.0])
def test_a_pixel_that_is_never_observed_has_the_average_moments(prior):
    observed, mask = images(planted(), 80)
    mask[:, :, 1, 2] = False
    density = started(observed.masked_fill(~mask, 0), mask, components=2, factors=2, prior=prior)
    fit(density, [(observed, mask)], passes=20)
    where = torch.ones(SHAPE[1:], dtype=torch.bool)
    where[1, 2] = False
    expected = density.pooled_mean[:, where].mean()
    torch.testing.assert_close(density.mean[..., 1, 2], expected.expand(2, SHAPE[0]))
    torch.testing.assert_close(density.factors[..., 1, 2], torch.zeros(2, 2, SHAPE[0], dtype=torch.float64))
    torch.testing.assert_close(density.noise[..., 1, 2], density.pooled_variance[:, where].mean().expand(2, SHAPE[0]))


@pytest.mark.parametrize("prior", [0.0, 3.0])
def test_a_component_that_explains_nothing_becomes_the_pooled_gaussian(prior):
    observed, mask = images(planted(), 80)
    density = started(observed, mask, components=3, factors=2, prior=prior)
    density.mean[1] = 1e3
    one_pass(density, observed, mask)
    torch.testing.assert_close(density.mean[1], density.pooled_mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(density.noise[1], density.pooled_variance, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(density.factors[1], torch.zeros_like(density.factors[1]))
    # the prior counts as so many images of each component, besides the 80
    assert density.mixture.weights[0, 1].item() == pytest.approx(prior / (80 + 3 * prior), abs=1e-9)
    fit(density, [(observed, mask)], passes=5, tolerance=-1)
    assert all(part.isfinite().all() for part in parameters(density))


@pytest.mark.parametrize("options", [{}, {"isotropic": True}, {"prior": 3.0}])
def test_images_without_any_variation_do_no_harm(options):
    observed = torch.full((30, *SHAPE), 0.25, dtype=torch.float64)
    mask = random_mask(30, SHAPE)
    density = started(observed, mask, components=3, factors=2, noise_floor=1e-4, noise_ceiling=0.25, **options)
    fit(density, [(observed, mask)], passes=10)
    assert all(part.isfinite().all() for part in parameters(density))
    assert (density.noise >= 1e-4 * (1 - 1e-12)).all() and (density.noise <= 0.25).all()
    torch.testing.assert_close(density.mixture.expectation()[0], observed[0], atol=1e-6, rtol=0)


def test_noise_stays_in_its_range():
    observed, mask = images(planted(), 100)
    density = started(observed, mask, components=2, factors=4, noise_floor=0.03, noise_ceiling=0.05)
    fit(density, [(observed, mask)], passes=5)
    assert density.noise.min().item() == pytest.approx(0.03) and density.noise.max().item() == pytest.approx(0.05)
