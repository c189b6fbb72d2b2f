"""EM on incomplete images: against a dense reference, its laws, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lacuna.densities.em import EM, fit
from lacuna.densities.smfa import SMFA
from lacuna.errors import LacunaError
from lacuna.mfa import MFA
from tests.dense import Dense
from tests.densities.mixtures import SHAPE, images, log_likelihood, one_pass, parameters, planted, started

PIXELS = SHAPE[0] * SHAPE[1] * SHAPE[2]


def assert_same(a: SMFA, b: SMFA, **tolerance: float) -> None:
    for x, y in zip(parameters(a), parameters(b), strict=True):
        torch.testing.assert_close(x, y, **tolerance)


# ---------------------------------------------------------------------- one pass


def dense_pass(density: SMFA, observed: Tensor, mask: Tensor) -> tuple[np.ndarray, ...]:
    """Textbook EM: one image, component and pixel at a time, with full covariances of (pixels, factors)."""
    mixture, x, o = (
        Dense.of(density.mixture, 0),
        observed.flatten(1).numpy(),
        mask.expand_as(observed).flatten(1).numpy(),
    )
    k, rank = density.factors.shape[:2]
    loadings = density.factors.flatten(2).numpy()
    gram = np.zeros((k, PIXELS, rank + 1, rank + 1))
    cross, square, count = np.zeros((k, PIXELS, rank + 1)), np.zeros((k, PIXELS)), np.zeros(k)
    for image, where in zip(x, o, strict=True):
        joint = np.exp(mixture.joint(image, where))
        for c, share in enumerate(joint / joint.sum()):
            gain = loadings[c][:, where] @ np.linalg.inv(mixture.covariances[c][np.ix_(where, where)])
            z = np.append(gain @ (image[where] - mixture.means[c][where]), 1.0)
            second = np.outer(z, z)
            second[:rank, :rank] += np.eye(rank) - gain @ loadings[c][:, where].T
            count[c] += share
            for pixel in np.flatnonzero(where):
                gram[c, pixel] += share * second
                cross[c, pixel] += share * image[pixel] * z
                square[c, pixel] += share * image[pixel] ** 2
    solved = np.linalg.solve(gram, cross[..., None])[..., 0]
    noise = (square - (solved * cross).sum(-1)) / gram[..., -1, -1]
    return count / count.sum(), solved[..., -1], solved[..., :-1].swapaxes(1, 2), noise


@pytest.mark.parametrize(("k", "rank"), [(1, 0), (1, 2), (3, 0), (3, 2)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_pass_is_that_of_the_dense_reference(k, rank, per_channel):
    observed, mask = images(planted(), 60, per_channel=per_channel)
    density = started(observed, mask, components=k, factors=rank)
    expected = dense_pass(density, observed, mask)
    one_pass(density, observed, mask)
    for found, wanted in zip(parameters(density), expected, strict=True):
        np.testing.assert_allclose(found.squeeze(0).numpy().reshape(wanted.shape), wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("isotropic", [False, True])
def test_complete_images_and_a_full_mask_are_the_same(isotropic):
    observed, _ = images(planted(), 80)
    observed = observed + 0.1
    shared = torch.ones(80, 1, *SHAPE[1:], dtype=torch.bool)
    results = []
    for mask, complete in ((shared, True), (shared, False), (shared.expand_as(observed), False)):
        density = started(observed, shared, components=2, factors=2, isotropic=isotropic, prior=1.0)
        for _ in range(3):
            one_pass(density, observed, mask, complete)
        results.append(density)
    assert_same(results[0], results[1], rtol=1e-9, atol=1e-11)
    assert_same(results[0], results[2], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("sizes", [[100], [1] * 100, [37, 63]])
def test_order_and_batches_do_not_matter(sizes):
    observed, mask = images(planted(), 100)
    whole, parts = (started(observed, mask, components=3, factors=2) for _ in range(2))
    one_pass(whole, observed, mask)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    batches = list(zip(observed[order].split(sizes), mask[order].split(sizes), strict=True))
    history = fit(parts, batches, passes=1)
    assert_same(parts, whole, rtol=1e-8, atol=1e-10)
    assert history[0].log_likelihood * int(mask.expand_as(observed).sum()) == pytest.approx(
        log_likelihood(started(observed, mask, components=3, factors=2), observed, mask), rel=1e-10
    )


def test_single_precision_is_accurate():
    """The products are float32, the sums float64: the likelihood has six correct digits."""
    observed, mask = images(planted(k=3), 200)
    found = {}
    for dtype in (torch.float32, torch.float64):
        density = started(observed.to(dtype), mask, components=3, factors=2, dtype=dtype, noise_floor=1e-4)
        found[dtype] = fit(density, [(observed.to(dtype), mask)], passes=10, tolerance=-1)[-1].log_likelihood
        assert {part.dtype for part in parameters(density)} == {dtype}
    assert found[torch.float32] == pytest.approx(found[torch.float64], rel=1e-5)


def test_missing_values_change_nothing():
    observed, mask = images(planted(), 50)
    results = []
    for filling in (0.0, 0.7, float("nan")):
        x = torch.where(mask, observed, filling)
        density = started(x, mask, components=2, factors=2, prior=1.0)
        fit(density, [(x, mask)], passes=3)
        results.append(density.state_dict())
    for other in results[1:]:
        assert all(torch.equal(value, results[0][name]) for name, value in other.items())


# ---------------------------------------------------------------------- many passes


@pytest.mark.parametrize(("k", "rank"), [(1, 0), (1, 2), (3, 0), (3, 2)])
@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize("masks", ["shared", "per channel", "nothing"])
def test_the_likelihood_of_observed_pixels_never_falls(k, rank, isotropic, masks):
    observed, mask = images(planted(k=3), 120, per_channel=masks == "per channel")
    if masks == "nothing":
        mask = torch.ones_like(mask)
    density = started(observed, mask, components=k, factors=rank, isotropic=isotropic, noise_floor=1e-3)
    reached = [log_likelihood(density, observed, mask)]
    for _ in range(30):
        one_pass(density, observed, mask, complete=masks == "nothing")
        reached.append(log_likelihood(density, observed, mask))
    assert min(np.diff(reached)) >= -1e-6, "the least prior is worth that much"
    assert reached[-1] > reached[0] + 50


@pytest.mark.parametrize("isotropic", [False, True])
def test_with_a_prior_the_posterior_never_falls(isotropic):
    observed, mask = images(planted(k=3), 60)
    density = started(observed, mask, components=3, factors=2, isotropic=isotropic, prior=2.5)
    values, reached = int(mask.expand_as(observed).sum()), []
    for _ in range(30):
        expected = log_likelihood(density, observed, mask) + float(density.prior.log_density(density.mixture))
        history = fit(density, [(observed, mask)], passes=1)
        reached.append(history[0].objective * values)
        assert reached[-1] == pytest.approx(expected, rel=1e-9)
    assert min(np.diff(reached)) >= -1e-9 * abs(reached[-1])


@pytest.mark.parametrize("prior", [0.5, 2.0])
def test_the_gradient_vanishes_at_convergence(prior):
    """By automatic differentiation of the log-density, through code that EM does not use."""
    observed, mask = images(planted(k=2, rank=1), 60)
    density = started(observed, mask, components=2, factors=1, prior=prior, noise_floor=1e-12)

    def slopes() -> Tensor:
        parts = [part.clone().requires_grad_() for part in density.mixture._parts()]
        each = MFA(*(part.expand(len(observed), *part.shape[1:]) for part in parts))
        total = each.log_prob(observed, mask).sum() + density.prior.log_density(MFA(*parts))
        gradients = torch.autograd.grad(total, parts)
        # of the logarithm of the noise, which has no scale
        scaled = [*gradients[:3], gradients[3] * parts[3]]
        return torch.stack([gradient.abs().max() for gradient in scaled])

    before = slopes()
    fit(density, [(observed, mask)], passes=250, tolerance=-1)
    assert (before > 0.1).all()
    assert (slopes() < 1e-6 * before).all()


def test_planted_parameters_are_found():
    truth = planted(k=2, rank=2)
    observed, mask = images(truth, 3000)
    density = started(observed, mask, components=2, factors=2)
    fit(density, [(observed, mask)], passes=100, tolerance=1e-6)
    found, wanted = Dense.of(density.mixture, 0), Dense.of(truth, 0)
    distance = ((found.means[:, None] - wanted.means) ** 2).sum(-1)
    order = distance.argmin(0)
    assert sorted(order) == [0, 1]
    np.testing.assert_allclose(found.weights[order], wanted.weights, atol=0.03)
    for c, k in enumerate(order):
        count = len(observed) * wanted.weights[c] * mask.double().mean().item()
        error = np.sqrt(wanted.covariances[c].diagonal() / count)
        assert (abs(found.means[k] - wanted.means[c]) < 4.5 * error).all()
        difference = found.covariances[k] - wanted.covariances[c]
        assert np.linalg.norm(difference) < 0.15 * np.linalg.norm(wanted.covariances[c])


# ---------------------------------------------------------------------- the pass as an object


def test_an_interrupted_pass_goes_on_bit_for_bit():
    observed, mask = images(planted(), 90)
    batches = list(zip(observed.split(30), mask.split(30), strict=True))
    whole = started(observed, mask, components=2, factors=2, prior=1.0)
    fit(whole, batches, passes=2, tolerance=-1)

    first = started(observed, mask, components=2, factors=2, prior=1.0)
    fit(first, batches, passes=1)
    em = EM()
    em.add(first, *batches[0])
    stored, weights = em.training_state(), first.state_dict()
    stored = {"sums": [tensor.clone() for tensor in stored["sums"]]}
    em.add(first, *batches[1])

    second = started(observed, mask, seed=9, components=2, factors=2, prior=1.0)
    second.load_state_dict(weights)
    again = EM()
    again.load_training_state(stored)
    for batch in batches[1:]:
        again.add(second, *batch)
    again.update(second)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in second.state_dict().items())
    assert again.training_state() == {"sums": None}


def test_fit_stops_at_the_tolerance_and_returns_its_history():
    observed, mask = images(planted(), 100)
    density = started(observed, mask, components=2, factors=2)
    history = fit(density, [(observed, mask)], passes=500, tolerance=1e-4)
    gains = np.diff([entry.objective for entry in history])
    assert 2 < len(history) < 500
    assert gains[-1] < 1e-4 <= gains[:-1].min()


def test_mistakes_are_named():
    observed, mask = images(planted(), 20)
    with pytest.raises(LacunaError, match=r"density\.start"):
        EM().add(SMFA(SHAPE), observed, mask)
    with pytest.raises(LacunaError, match="no images"):
        EM().update(SMFA(SHAPE))
    em, density = EM(), started(observed, mask, components=2, factors=1)
    em.add(density, observed, mask)
    with pytest.raises(LacunaError, match="per channel"):
        em.add(density, observed, mask.expand_as(observed))
