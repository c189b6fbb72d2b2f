"""SMFA: conditioning on observed pixels, and the start values of EM."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from lacuna.densities.em import fit
from lacuna.densities.em_algebra import inverse, lower, unpack
from lacuna.densities.em_start import distances, kmeans, pooled_moments
from lacuna.densities.smfa import SMFA
from lacuna.errors import LacunaError
from lacuna.layers.stem import MisConvStem
from lacuna.mfa import MFA
from tests.dense import Dense, random_images, random_mask, random_mfa
from tests.densities.mixtures import SHAPE, images, planted, started


def of(mixture: MFA, **options) -> SMFA:
    """An SMFA that holds a mixture."""
    density = SMFA(tuple(mixture.mean.shape[2:]), mixture.components, mixture.rank, **options).to(mixture.mean.dtype)
    density.mixture = mixture
    return density


def incomplete(n: int, per_channel: bool = False) -> tuple[Tensor, Tensor]:
    mask = random_mask(n, SHAPE, per_channel=per_channel)
    return torch.where(mask, random_images(n, SHAPE), 0), mask


def observed_values(mask: Tensor, row: int) -> np.ndarray:
    return mask.expand(-1, *SHAPE)[row].numpy().ravel()


# ---------------------------------------------------------------------- conditioning


@pytest.mark.parametrize(("k", "rank"), [(1, 0), (1, 3), (4, 0), (4, 3)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_agrees_with_the_dense_conditional(k, rank, per_channel):
    mixture = random_mfa(1, k, rank, SHAPE)
    observed, mask = incomplete(6, per_channel)
    found = of(mixture)(observed, mask).pin(observed, mask)
    for i in range(6):
        expected = Dense.of(mixture, 0).condition(observed[i].numpy().ravel(), observed_values(mask, i))
        got = Dense.of(found, i)
        np.testing.assert_allclose(got.weights, expected.weights, atol=1e-10)
        np.testing.assert_allclose(got.means, expected.means, atol=1e-10)
        np.testing.assert_allclose(got.covariances, expected.covariances, atol=1e-10)


def test_the_most_responsible_components_are_kept():
    mixture = random_mfa(1, 5, 2, SHAPE)
    mixture = MFA(mixture.logits, 0.5 + 0.2 * (mixture.mean - 0.5), mixture.factors, mixture.noise)
    observed, mask = incomplete(8)
    every = of(mixture)(observed, mask)
    for keep in (1, 3, 5):
        few = of(mixture, keep=keep)(observed, mask)
        assert few.components == keep
        order = every.weights.argsort(1, descending=True)[:, :keep]
        rows = torch.arange(8)[:, None]
        chosen = MFA(*(part[rows, order] for part in every._parts()))
        torch.testing.assert_close(few.expectation(), chosen.expectation())
        torch.testing.assert_close(few.variance(), chosen.variance())
    one = of(mixture, keep=1)(observed, mask)
    torch.testing.assert_close(one.expectation(), every.mode())
    assert not torch.allclose(one.expectation(), every.expectation(), atol=1e-3)


def test_the_authors_covariance_has_a_sign_error():
    """2 I - L^-1 in place of L^-1: the variance grows with the number of observed pixels."""
    mixture = random_mfa(1, 2, 3, SHAPE)
    observed, mask = incomplete(4)
    right, wrong = (of(mixture, covariance=name)(observed, mask) for name in ("exact", "authors"))
    torch.testing.assert_close(wrong.mean, right.mean)
    torch.testing.assert_close(wrong.weights, right.weights)
    loadings, noise = mixture.factors[0].flatten(2).numpy(), mixture.noise[0].flatten(1).numpy()
    for i in range(4):
        o = observed_values(mask, i)
        for c in range(2):
            a = loadings[c]
            y = a[:, o] / noise[c][o] @ a[:, o].T
            identity = np.eye(3)
            published = identity + y - y @ np.linalg.inv(identity + y) @ y
            found = wrong.factors[i, c].flatten(1).numpy()
            np.testing.assert_allclose(found.T @ found, a.T @ published @ a, atol=1e-10)
    # beyond what is unknown before anything is observed, where exactly there is less
    before = mixture.factors.square().sum(2)
    assert (wrong.factors.square().sum(2) >= before * (1 - 1e-12)).all()
    assert (right.factors.square().sum(2) <= before * (1 + 1e-12)).all()


def test_it_predicts_missing_pixels():
    """Missing pixels are predicted far better than by the pooled mean, with errors of the density's variance."""
    truth = planted(k=2, rank=2)
    observed, mask = images(truth, 3000)
    density = started(observed, mask, components=2, factors=2, prior=1.0)
    fit(density, [(observed, mask)], passes=40)
    x = truth.sample(500, torch.Generator().manual_seed(7))[:, 0]
    where = random_mask(500, SHAPE, seed=8)
    mfa, missing = density(torch.where(where, x, 0), where), ~where.expand_as(x)
    best = truth.condition(torch.where(where, x, 0), where)
    error, least, pooled = (
        (mean - x)[missing].square().mean().item()
        for mean in (mfa.expectation(), best.expectation(), density.pooled_mean)
    )
    assert error < 1.05 * least < 0.5 * pooled
    assert error == pytest.approx(mfa.variance()[missing].mean().item(), rel=0.15)
    assert mfa.log_prob(x, ~where).mean() > best.log_prob(x, ~where).mean() - 0.5


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_log_density_of_observed_pixels(per_channel):
    mixture = random_mfa(1, 3, 2, SHAPE)
    observed, mask = incomplete(6, per_channel)
    expected = [Dense.of(mixture, 0).log_prob(observed[i].numpy().ravel(), observed_values(mask, i)) for i in range(6)]
    np.testing.assert_allclose(of(mixture).log_prob(observed, mask).numpy(), expected, rtol=1e-10)


def test_missing_values_are_not_read():
    mixture = random_mfa(1, 3, 2, SHAPE)
    observed, mask = incomplete(4)
    unknown = torch.where(mask, observed, float("nan"))
    for a, b in zip(of(mixture)(unknown, mask)._parts(), of(mixture)(observed, mask)._parts(), strict=True):
        assert torch.equal(a, b)


def test_all_components_affect_the_expected_activation():
    mixture = random_mfa(1, 4, 2, SHAPE, dtype=torch.float32)
    mixture = MFA(mixture.logits, 0.5 + 0.2 * (mixture.mean - 0.5), mixture.factors, mixture.noise)
    torch.manual_seed(0)
    stem = MisConvStem(SHAPE[0], of(mixture), filters=3)
    observed, mask = (part.float() if part.is_floating_point() else part for part in incomplete(3))
    drawn = stem.encode(observed, mask).sample(40000, torch.Generator().manual_seed(1))
    with torch.no_grad():
        activations = stem.conv._conv_forward(drawn.flatten(0, 1), stem.conv.weight, stem.conv.bias).relu()
        activations = activations.unflatten(0, drawn.shape[:2])
        expected = stem(observed, mask)
    error = activations.std(0) / 200
    assert ((activations.mean(0) - expected).abs() <= 4.5 * error + 1e-5).all()


def test_predictions_are_single_precision_and_the_same_under_autocast():
    density = of(random_mfa(1, 3, 2, SHAPE, dtype=torch.float32))
    observed, mask = (part.float() if part.is_floating_point() else part for part in incomplete(3))
    plain = density(observed, mask)
    with torch.autocast("cpu", torch.bfloat16):
        cast = density(observed.bfloat16().float(), mask)
        same = density(observed, mask)
    assert {part.dtype for part in cast._parts()} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(plain._parts(), same._parts(), strict=True))


def test_before_any_image_it_is_a_valid_density():
    density = SMFA(SHAPE, components=2)
    assert not density.started
    observed, mask = incomplete(2)
    mfa = density(observed.float(), mask)
    torch.testing.assert_close(mfa.expectation(), torch.full((2, *SHAPE), 0.5))
    torch.testing.assert_close(mfa.variance(), torch.full((2, *SHAPE), 1 / 12))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"components": 0}, "density.components=0"),
        ({"factors": -1}, "density.factors=-1"),
        ({"prior": -1.0}, "density.prior=-1"),
        ({"prior": float("nan")}, "density.prior=nan"),
        ({"noise_floor": 0.3}, "density.noise_floor=0.3"),
        ({"keep": 0}, "density.keep=0"),
        ({"keep": 11}, "density.keep=11"),
        ({"covariance": "wrong"}, "density.covariance=wrong"),
    ],
)
def test_mistakes_are_named(options, named):
    with pytest.raises(LacunaError, match=named.replace(".", r"\.")):
        SMFA(SHAPE, **options)


# ---------------------------------------------------------------------- the start


def test_pooled_moments_are_over_observed_pixels():
    observed, mask = images(planted(), 50, per_channel=True)
    mask[:, 0, 0, 1] = False
    mean, variance = pooled_moments(torch.where(mask, observed, float("nan")), mask)
    for at in np.ndindex(*SHAPE):
        values = observed[(slice(None), *at)][mask[(slice(None), *at)]]
        if len(values):
            assert mean[at].item() == pytest.approx(values.mean().item())
            assert variance[at].item() == pytest.approx(values.var(correction=0).item())
    others = torch.ones(SHAPE, dtype=torch.bool)
    others[0, 0, 1] = False
    assert mean[0, 0, 1].item() == pytest.approx(mean[others].mean().item())
    assert variance[0, 0, 1].item() == pytest.approx(variance[others].mean().item())


def test_distances_use_observed_pixels_only():
    observed, mask = images(planted(), 20)
    centres = random_images(3, SHAPE).flatten(1)
    where = mask.expand_as(observed).flatten(1)
    found = distances(observed.flatten(1), where.double(), centres)
    for i in range(20):
        for c in range(3):
            difference = (observed.flatten(1)[i] - centres[c])[where[i]]
            assert found[i, c].item() == pytest.approx(difference.square().sum().item(), abs=1e-12)


def test_kmeans_of_complete_images_is_a_fixed_point_of_lloyds_algorithm():
    x = planted(k=4).sample(300, torch.Generator().manual_seed(0))[:, 0].flatten(1)
    x = x - x.mean(0)
    centres, label = kmeans(x, torch.ones_like(x), 4, seed=0, steps=200)
    reference = KMeans(4, init=centres.numpy(), n_init=1, algorithm="lloyd").fit(x.numpy())
    np.testing.assert_array_equal(reference.labels_, label.numpy())
    np.testing.assert_allclose(reference.cluster_centers_, centres.numpy(), atol=1e-9)


def test_more_steps_of_kmeans_lower_the_squared_error_of_observed_pixels():
    observed, mask = images(planted(k=5), 200)
    where = mask.expand_as(observed).flatten(1).double()
    x = (observed.flatten(1) - 0.5) * where

    def error(steps: int) -> float:
        centres, label = kmeans(x, where, 5, seed=1, steps=steps)
        return float(distances(x, where, centres).gather(1, label[:, None]).sum())

    errors = [error(steps) for steps in (0, 1, 2, 3, 5, 10)]
    assert all(after <= before + 1e-9 for before, after in pairwise(errors))
    assert errors[-1] < 0.95 * errors[0]


def test_clusters_far_apart_are_found_in_incomplete_images():
    rng = torch.Generator().manual_seed(0)
    truth = torch.arange(240) % 4
    centres = torch.rand(4, *SHAPE, generator=rng, dtype=torch.float64)
    x = centres[truth] + 0.02 * torch.randn(240, *SHAPE, generator=rng, dtype=torch.float64)
    mask = random_mask(240, SHAPE)[torch.randperm(240, generator=rng)]
    for seed in range(5):
        density = started(x, mask, components=4, factors=0, seed=seed)
        distance = (density.mean[:, None] - centres).flatten(2).square().mean(2)
        assert sorted(distance.argmin(1).tolist()) == [0, 1, 2, 3]
        assert distance.min(1).values.max() < 1e-3


def test_the_start_depends_on_its_seed_and_on_nothing_else():
    observed, mask = images(planted(), 60)
    torch.manual_seed(0)
    first = started(observed, mask, seed=1, components=3, factors=2)
    torch.manual_seed(1)
    again, other = (started(observed, mask, seed=seed, components=3, factors=2) for seed in (1, 2))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.mean, other.mean)
    assert first.started and int(first.images) == 60


def test_too_few_images_are_refused():
    observed, mask = images(planted(), 5)
    for options in ({"components": 6, "factors": 1}, {"components": 1, "factors": 6}):
        with pytest.raises(LacunaError, match=r"density\.components"):
            started(observed, mask, **options)
    density = started(observed, mask, components=5, factors=5, prior=1.0)
    fit(density, [(observed, mask)], passes=3)
    assert all(part.isfinite().all() for part in density.mixture._parts())


# ---------------------------------------------------------------------- algebra


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_inverses_and_determinants(n):
    a = torch.randn(4, 3, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = a @ a.mT + 0.1 * torch.eye(n, dtype=torch.float64)
    found, log_determinant = inverse(a.permute(2, 3, 0, 1))
    torch.testing.assert_close(found.permute(2, 3, 0, 1), torch.linalg.inv(a))
    torch.testing.assert_close(log_determinant, torch.linalg.slogdet(a)[1])


def test_packing():
    a = torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(0))
    a = a + a.transpose(0, 1)
    rows, columns = lower(4)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True))[:3] == [(0, 0), (1, 0), (1, 1)]
    torch.testing.assert_close(unpack(a[rows, columns], 4), a)
