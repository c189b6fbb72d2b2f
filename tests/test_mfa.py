"""MFA against dense Gaussian mixtures: densities and conditioning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from lacuna.mfa import MFA
from tests.dense import Dense, random_images, random_mask, random_mfa

SHAPE = (2, 3, 4)
SIZES = [(1, 0), (1, 4), (3, 0), (3, 1), (3, 4)]  # (K, L)
NOTHING = torch.zeros(5, 1, *SHAPE[1:], dtype=torch.bool)


def flat(mask: Tensor, row: int) -> np.ndarray:
    return mask.expand(-1, *SHAPE)[row].numpy().ravel()


def assert_same_mixture(mfa: MFA, dense: Dense, row: int, atol: float = 1e-10) -> None:
    found = Dense.of(mfa, row)
    np.testing.assert_allclose(found.weights, dense.weights, atol=atol)
    np.testing.assert_allclose(found.means, dense.means, atol=atol)
    np.testing.assert_allclose(found.covariances, dense.covariances, atol=atol)


# ---------------------------------------------------------------------- log_prob


@pytest.mark.parametrize(("k", "rank"), SIZES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_log_prob_is_that_of_the_dense_restriction(k, rank, per_channel):
    mfa, x = random_mfa(5, k, rank, SHAPE), random_images(5, SHAPE)
    where = random_mask(5, SHAPE, per_channel=per_channel)
    expected = [Dense.of(mfa, i).log_prob(x[i].numpy().ravel(), flat(where, i)) for i in range(5)]
    np.testing.assert_allclose(mfa.log_prob(x, where).numpy(), expected, rtol=1e-11)


def test_component_log_prob_has_no_weights():
    mfa, x, where = random_mfa(5, 3, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    for i in range(5):
        dense = Dense.of(mfa, i)
        expected = dense.joint(x[i].numpy().ravel(), flat(where, i)) - np.log(dense.weights)
        np.testing.assert_allclose(mfa.component_log_prob(x, where)[i].numpy(), expected, rtol=1e-11)


def test_printed_value():
    """reference/misconv.md, section 9: negative log-likelihood 1.1006344."""
    mfa = MFA(
        logits=torch.zeros(1, 1),
        mean=torch.tensor([0.0, 0.1, 0.5]).view(1, 1, 1, 1, 3),
        factors=torch.tensor([[0.1, 0.2, 0.0], [0.0, -0.1, 0.3]]).view(1, 1, 2, 1, 1, 3),
        noise=torch.tensor([0.5, 0.25, 0.1]).view(1, 1, 1, 1, 3),
    )
    x = torch.tensor([0.1, 0.2, 0.3]).view(1, 1, 1, 3)
    assert -mfa.log_prob(x, torch.ones_like(x, dtype=torch.bool)).item() == pytest.approx(1.1006344, abs=2e-7)


def test_a_diagonal_gaussian_is_a_sum_over_pixels():
    mfa, x, where = random_mfa(5, 1, 0, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    each = norm(mfa.mean[:, 0].numpy(), mfa.noise[:, 0].sqrt().numpy()).logpdf(x.numpy())
    expected = (each * where.numpy()).sum((1, 2, 3))
    np.testing.assert_allclose(mfa.log_prob(x, where).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(("k", "rank"), SIZES)
def test_the_empty_set_has_log_density_zero(k, rank):
    mfa = random_mfa(5, k, rank, SHAPE)
    assert mfa.log_prob(random_images(5, SHAPE), NOTHING).abs().max() < 1e-14


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_values_outside_the_set_are_never_read(value):
    mfa, x, where = random_mfa(5, 3, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    parts = [part.requires_grad_() for part in (mfa.logits, mfa.mean, mfa.factors, mfa.noise)]
    wanted = mfa.log_prob(x, where)
    gradients = torch.autograd.grad(wanted.sum(), parts)
    dirty = torch.where(where, x, value).requires_grad_()
    found = mfa.log_prob(dirty, where)
    assert torch.equal(found, wanted)
    *again, of_x = torch.autograd.grad(found.sum(), [*parts, dirty])
    assert all(torch.equal(a, b) for a, b in zip(again, gradients, strict=True))
    assert of_x.isfinite().all() and (of_x.masked_select(~where) == 0).all()


def test_noise_may_be_zero_outside_the_set():
    """As it is after pinning: neither the value nor any gradient may become NaN."""
    plain, x, where = random_mfa(5, 2, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    pinned = plain.pin(x, ~where)
    noise = pinned.noise.detach().requires_grad_()
    found = MFA(pinned.logits, pinned.mean, pinned.factors, noise).log_prob(x, where)
    torch.testing.assert_close(found, plain.log_prob(x, where))
    (gradient,) = torch.autograd.grad(found.sum(), noise)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(("k", "rank"), [(1, 2), (2, 0), (3, 2)])
def test_gradients_of_log_prob(k, rank):
    shape = (1, 2, 2)
    mfa, x = random_mfa(2, k, rank, shape), random_images(2, shape)
    where = torch.tensor([[[[True, False], [True, True]]], [[[False, False], [True, False]]]])
    inputs = [part.requires_grad_() for part in (x, mfa.logits, mfa.mean, mfa.noise, mfa.factors) if part.numel()]

    def log_prob(x: Tensor, logits: Tensor, mean: Tensor, noise: Tensor, factors: Tensor = mfa.factors) -> Tensor:
        return MFA(logits, mean, factors, noise).log_prob(x, where)

    assert torch.autograd.gradcheck(log_prob, inputs)


def test_float32_is_accurate_on_images():
    shape = (3, 16, 16)
    exact = random_mfa(4, 2, 4, shape)
    x, where = exact.sample(1, torch.Generator().manual_seed(0))[0], random_mask(4, shape)
    wanted = exact.log_prob(x, where)
    found = exact.to(torch.float32).log_prob(x.float(), where)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-3)


def test_the_density_of_one_pixel_integrates_to_one():
    mfa = random_mfa(1, 3, 2, (1, 1, 1))
    grid = torch.linspace(-6, 7, 20001, dtype=torch.float64)
    many = MFA(*(part.expand(len(grid), *part.shape[1:]) for part in (mfa.logits, mfa.mean, mfa.factors, mfa.noise)))
    log_prob = many.log_prob(grid.view(-1, 1, 1, 1), torch.ones(len(grid), 1, 1, 1, dtype=torch.bool))
    assert torch.trapezoid(log_prob.exp(), grid).item() == pytest.approx(1, abs=1e-9)


# ---------------------------------------------------------------------- conditioning


@pytest.mark.parametrize(("k", "rank"), SIZES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_condition_is_dense_conditioning(k, rank, per_channel):
    mfa, x = random_mfa(5, k, rank, SHAPE), random_images(5, SHAPE)
    mask = random_mask(5, SHAPE, per_channel=per_channel)
    posterior = mfa.condition(x, mask)
    for i in range(5):
        assert_same_mixture(posterior, Dense.of(mfa, i).condition(x[i].numpy().ravel(), flat(mask, i)), i)


def test_one_mixture_is_conditioned_on_many_images():
    mfa, x, mask = random_mfa(1, 3, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    posterior = mfa.condition(x, mask)
    assert len(posterior) == 5
    for i in range(5):
        assert_same_mixture(posterior, Dense.of(mfa, 0).condition(x[i].numpy().ravel(), flat(mask, i)), i)


def test_one_mixture_gives_densities_of_many_images():
    mfa, x, where = random_mfa(1, 3, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    expected = [Dense.of(mfa, 0).log_prob(x[i].numpy().ravel(), flat(where, i)) for i in range(5)]
    np.testing.assert_allclose(mfa.log_prob(x, where).numpy(), expected, rtol=1e-11)


def test_chain_rule():
    """log p(all) = log p(observed) + log p(missing | observed)."""
    mfa, x, mask = random_mfa(5, 3, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    everything = mfa.log_prob(x, torch.ones_like(mask))
    torch.testing.assert_close(mfa.log_prob(x, mask) + mfa.condition(x, mask).log_prob(x, ~mask), everything)


def test_conditioning_on_nothing_changes_nothing():
    mfa = random_mfa(5, 3, 2, SHAPE)
    posterior = mfa.condition(random_images(5, SHAPE), NOTHING)
    for i in range(5):
        assert_same_mixture(posterior, Dense.of(mfa, i), i, atol=1e-14)


@pytest.mark.parametrize("method", ["condition", "pin"])
def test_all_mass_lies_on_observed_pixels(method):
    mfa, x = random_mfa(5, 3, 2, SHAPE), random_images(5, SHAPE)
    mask = random_mask(5, SHAPE, per_channel=True)
    found: MFA = getattr(mfa, method)(torch.where(mask, x, float("nan")), mask)
    observed = mask[:, None].expand_as(found.mean)
    assert torch.equal(found.mean[observed], x[:, None].expand_as(found.mean)[observed])
    assert (found.noise[observed] == 0).all()
    assert (found.factors[observed[:, :, None].expand_as(found.factors)] == 0).all()
    assert all(part.isfinite().all() for part in (found.logits, found.mean, found.factors, found.noise))


def test_pin_does_not_change_missing_pixels():
    mfa, x, mask = random_mfa(5, 3, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    pinned = mfa.pin(x, mask)
    missing = ~mask[:, None].expand_as(mfa.mean)
    assert torch.equal(pinned.logits, mfa.logits)
    assert torch.equal(pinned.mean[missing], mfa.mean[missing])
    assert torch.equal(pinned.noise[missing], mfa.noise[missing])
    wide = missing[:, :, None].expand_as(mfa.factors)
    assert torch.equal(pinned.factors[wide], mfa.factors[wide])


def test_gradients_of_condition():
    shape = (1, 2, 2)
    mfa, x = random_mfa(1, 2, 2, shape), random_images(2, shape)
    mask = torch.tensor([[[[True, False], [True, True]]], [[[False, False], [True, False]]]])
    inputs = [part.requires_grad_() for part in (x, mfa.logits, mfa.mean, mfa.factors, mfa.noise)]

    def summaries(x: Tensor, *parts: Tensor) -> tuple[Tensor, Tensor]:
        posterior = MFA(*parts).condition(x, mask)
        return posterior.expectation(), posterior.variance()

    assert torch.autograd.gradcheck(summaries, inputs)


def test_more_observations_never_widen_a_gaussian():
    mfa, x = random_mfa(1, 1, 3, SHAPE), random_images(6, SHAPE)
    more = random_mask(6, SHAPE)
    less = more & random_mask(6, SHAPE, seed=5)
    prior, wide, narrow = mfa.variance(), mfa.condition(x, less).variance(), mfa.condition(x, more).variance()
    assert (wide <= prior + 1e-12).all() and (narrow <= wide + 1e-12).all()
