"""MFA as a value: independent of its representation in memory; its moments, samples and shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from torch import Tensor

from lacuna.mfa import MFA
from tests.dense import Dense, random_images, random_mask, random_mfa

SHAPE = (2, 3, 4)
SIZES = [(1, 0), (1, 4), (3, 0), (3, 1), (3, 4)]  # (K, L)

# ---------------------------------------------------------------------- invariances


def outcomes(mfa: MFA, x: Tensor, mask: Tensor) -> list[Tensor]:
    """All results for an image that do not depend on the order of components."""
    posterior = mfa.condition(x, mask)
    return [
        mfa.log_prob(x, mask),
        posterior.log_prob(x, ~mask),
        posterior.expectation(),
        posterior.variance(),
        posterior.mode(),
        mfa.expectation(),
        mfa.variance(),
        mfa.mode(),
    ]


def test_half_precision_around_it_changes_nothing():
    mfa, x, where = random_mfa(5, 3, 2, SHAPE).to(torch.float32), random_images(5, SHAPE).float(), random_mask(5, SHAPE)
    plain = outcomes(mfa, x, where)
    with torch.autocast("cpu", torch.bfloat16):
        for a, b in zip(outcomes(mfa, x, where), plain, strict=True):
            assert a.dtype == torch.float32 and torch.equal(a, b)


def test_order_of_components_changes_nothing():
    mfa, x, mask = random_mfa(5, 4, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    shuffled = mfa.permute_components(torch.tensor([2, 0, 3, 1]))
    assert torch.equal(shuffled.mean[:, 0], mfa.mean[:, 2])
    for a, b in zip(outcomes(mfa, x, mask), outcomes(shuffled, x, mask), strict=True):
        torch.testing.assert_close(a, b)


def test_batch_composition_changes_nothing():
    mfa, x, mask = random_mfa(5, 3, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    rows = torch.tensor([3, 1, 1])
    for whole, some in zip(outcomes(mfa, x, mask), outcomes(mfa[rows], x[rows], mask[rows]), strict=True):
        torch.testing.assert_close(whole[rows], some)
    both = MFA.cat([mfa[:2], mfa[2:]])
    for whole, joined in zip(outcomes(mfa, x, mask), outcomes(both, x, mask), strict=True):
        assert torch.equal(whole, joined)


def test_memory_layout_changes_nothing():
    mfa, x, mask = random_mfa(5, 3, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)

    def channels_last(tensor: Tensor) -> Tensor:
        return tensor.movedim(-3, -1).contiguous().movedim(-1, -3)

    other = MFA(mfa.logits, *(channels_last(part) for part in (mfa.mean, mfa.factors, mfa.noise)))
    assert not other.mean.is_contiguous()
    for a, b in zip(outcomes(mfa, x, mask), outcomes(other, channels_last(x), mask), strict=True):
        torch.testing.assert_close(a, b)


def test_logits_count_up_to_a_constant():
    mfa, x, mask = random_mfa(5, 3, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    shifted = MFA(mfa.logits + 100, mfa.mean, mfa.factors, mfa.noise)
    for a, b in zip(outcomes(mfa, x, mask), outcomes(shifted, x, mask), strict=True):
        torch.testing.assert_close(a, b)


def test_splitting_a_component_in_two_changes_nothing():
    mfa, x, mask = random_mfa(5, 2, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    twice = mfa.permute_components(torch.tensor([0, 1, 1]))
    logits = twice.logits - torch.tensor([0, math.log(2), math.log(2)], dtype=torch.float64)
    split = MFA(logits, twice.mean, twice.factors, twice.noise)
    for a, b in zip(outcomes(mfa, x, mask)[:4], outcomes(split, x, mask)[:4], strict=True):
        torch.testing.assert_close(a, b)


# ---------------------------------------------------------------------- summaries and samples


@pytest.mark.parametrize(("k", "rank"), SIZES)
def test_expectation_and_variance_are_the_mixture_s_moments(k, rank):
    mfa = random_mfa(5, k, rank, SHAPE)
    for i in range(5):
        mean, covariance = Dense.of(mfa, i).moments()
        np.testing.assert_allclose(mfa.expectation()[i].numpy().ravel(), mean, atol=1e-12)
        np.testing.assert_allclose(mfa.variance()[i].numpy().ravel(), np.diag(covariance), atol=1e-12)


def test_mode_is_the_mean_of_the_component_of_largest_weight():
    mfa = random_mfa(5, 3, 2, SHAPE)
    for i in range(5):
        assert torch.equal(mfa.mode()[i], mfa.mean[i, int(mfa.weights[i].argmax())])


@pytest.mark.parametrize(("k", "rank"), [(1, 0), (3, 2)])
def test_samples_have_the_stated_mean_and_covariance(k, rank):
    n, shape = 40_000, (1, 2, 3)
    mfa = random_mfa(2, k, rank, shape)
    drawn = mfa.sample(n, torch.Generator().manual_seed(0))
    assert drawn.shape == (n, 2, *shape)
    for i in range(2):
        mean, covariance = Dense.of(mfa, i).moments()
        x = drawn[:, i].flatten(1).numpy()
        assert np.abs((x.mean(0) - mean) / (x.std(0) / math.sqrt(n))).max() < 4.5
        products = np.einsum("ni,nj->nij", x - mean, x - mean)
        errors = products.std(0) / math.sqrt(n)
        assert np.abs((products.mean(0) - covariance) / errors).max() < 4.5


def test_samples_keep_observed_pixels_and_are_reproducible():
    mfa, x, mask = random_mfa(5, 3, 2, SHAPE), random_images(5, SHAPE), random_mask(5, SHAPE)
    posterior = mfa.condition(x, mask)
    one, two = (posterior.sample(3, torch.Generator().manual_seed(s)) for s in (1, 1))
    assert torch.equal(one, two)
    assert torch.equal(torch.where(mask, one, 0), torch.where(mask, x, 0).expand_as(one))
    missing = ~mask.expand(-1, *SHAPE)
    assert (one[0] != one[1])[missing].all()


def test_every_combination_of_pixels_is_distributed_as_stated():
    """A random projection of the samples against its mixture of normals (Kolmogorov-Smirnov): not moments only."""
    mfa = random_mfa(1, 3, 2, (1, 2, 3))
    direction = np.random.default_rng(0).normal(size=6)
    projected = mfa.sample(5000, torch.Generator().manual_seed(3))[:, 0].flatten(1).numpy() @ direction
    dense = Dense.of(mfa, 0)
    centres = dense.means @ direction
    spreads = np.sqrt(np.einsum("kij,i,j->k", dense.covariances, direction, direction))
    result = kstest(projected, lambda t: norm.cdf(t[:, None], centres, spreads) @ dense.weights)
    assert result.pvalue > 1e-3


# ---------------------------------------------------------------------- the value itself


def test_parts_of_a_batch_and_types():
    mfa = random_mfa(5, 3, 2, SHAPE)
    assert (len(mfa), mfa.components, mfa.rank) == (5, 3, 2)
    assert len(mfa[1:3]) == 2 and torch.equal(mfa[1:3].noise, mfa.noise[1:3])
    torch.testing.assert_close(mfa.weights.sum(1), torch.ones(5, dtype=torch.float64))
    assert mfa.to(torch.float32).factors.dtype == torch.float32
    mfa.mean.requires_grad_()
    assert mfa.mean.requires_grad and not mfa.detach().mean.requires_grad


@pytest.mark.parametrize("wrong", ["logits", "mean", "factors", "noise", "rank of factors", "size"])
def test_shapes_that_do_not_fit_are_refused(wrong):
    good = random_mfa(2, 3, 2, SHAPE)
    parts = {"logits": good.logits, "mean": good.mean, "factors": good.factors, "noise": good.noise}
    if wrong == "rank of factors":
        parts["factors"] = parts["factors"][:, :, 0]
    elif wrong == "size":
        parts["factors"] = parts["factors"][..., :-1]
    elif wrong == "noise":
        parts["noise"] = parts["noise"][:, :, :1]
    else:
        parts[wrong] = parts[wrong][:, :2]
    with pytest.raises(ValueError, match=r"MFA needs logits \(B,K\)"):
        MFA(**parts)


def test_a_set_of_the_wrong_size_is_refused():
    mfa, x = random_mfa(2, 1, 1, SHAPE), random_images(2, SHAPE)
    with pytest.raises(RuntimeError):
        mfa.log_prob(x, torch.ones(2, 1, 3, 3, dtype=torch.bool))
