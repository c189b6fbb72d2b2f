"""FID against scipy's matrix square root, closed forms and its invariances; its protocol."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.metrics.features import Features
from lacuna.metrics.fid import FID, Statistics, frechet_distance, statistics
from lacuna.metrics.moments import BLOCK, Moments, covariance_factor

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def given(mean: Tensor, covariance: Tensor, n: int = 1000) -> Statistics:
    return Statistics(mean.double(), covariance.double(), n, "a net", "made up")


def statistics_of(x: Tensor, features: str = "a net") -> Statistics:
    moments = Moments()
    moments.update(x)
    mean, covariance = moments.compute()
    return Statistics(mean, covariance, moments.n, features, "made up")


def orthogonal(d: int) -> Tensor:
    return torch.linalg.qr(normal(d, d))[0]


def published(x: np.ndarray, y: np.ndarray) -> float:
    """The usual formula, for covariances that are not singular."""
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.trace(sqrtm(a @ b))
    assert abs(root.imag) < 1e-6
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * root.real)


# ---------------------------------------------------------------------- the distance


@pytest.mark.parametrize("d", [2, 7, 40])
def test_it_is_scipys(d: int) -> None:
    x, y = normal(90, d) @ normal(d, d) + normal(d), normal(70, d) @ normal(d, d)
    assert frechet_distance(statistics_of(x), statistics_of(y)) == pytest.approx(
        published(x.numpy(), y.numpy()), rel=1e-9
    )


def test_one_feature() -> None:
    x, y = 2 * normal(90, 1) + 3, normal(70, 1)
    expected = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert frechet_distance(statistics_of(x), statistics_of(y)) == pytest.approx(expected.item(), rel=1e-12)


def test_closed_form_of_covariances_that_commute() -> None:
    """With common eigenvectors: |m1 - m2|² + sum (sqrt(a) - sqrt(b))²; eigenvalues over eight decades, some zero."""
    q = orthogonal(30)
    a, b = 10 ** (8 * torch.rand(2, 30, generator=GENERATOR, dtype=torch.float64) - 6)
    a[:4], b[2:7] = 0, 0
    m1, m2 = normal(2, 30)
    expected = (m1 - m2).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    found = frechet_distance(given(m1, (q * a) @ q.T), given(m2, (q * b) @ q.T))
    assert found == pytest.approx(expected.item(), rel=1e-10)


def test_closed_form_of_rank_one() -> None:
    """C1 = uuᵀ and C2 = vvᵀ: the trace of the root is |u·v|; zero if they are orthogonal."""
    u, v = normal(2, 20)
    zero = torch.zeros(20)
    expected = (u @ u + v @ v - 2 * (u @ v).abs()).item()
    assert frechet_distance(given(zero, u.outer(u)), given(zero, v.outer(v))) == pytest.approx(expected, rel=1e-12)
    v -= u * (u @ v) / (u @ u)
    expected = (u @ u + v @ v).item()
    assert frechet_distance(given(zero, u.outer(u)), given(zero, v.outer(v))) == pytest.approx(expected, rel=1e-12)


def test_a_point_against_a_gaussian() -> None:
    """One set without variance: the mean squared distance from the point."""
    x, point = normal(50, 6), normal(6)
    cloud = statistics_of(x)
    expected = (cloud.mean - point).square().sum() + cloud.covariance.trace()
    assert frechet_distance(given(point, torch.zeros(6, 6)), cloud) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("n", [100, 10], ids=["full rank", "fewer vectors than dimensions"])
def test_zero_from_itself_symmetric_and_never_negative(n: int) -> None:
    a, b = statistics_of(normal(n, 30)), statistics_of(1.3 * normal(n, 30) + 0.1)
    scale = a.covariance.trace().item()
    assert 0 <= frechet_distance(a, a) < 1e-12 * scale
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert frechet_distance(a, b) > 0.1


@pytest.mark.parametrize("n", [100, 10], ids=["full rank", "fewer vectors than dimensions"])
def test_moving_both_sets_alike_changes_nothing(n: int) -> None:
    x, y, turn, shift = normal(n, 30), 2 * normal(n, 30), orthogonal(30), normal(30)
    before = frechet_distance(statistics_of(x), statistics_of(y))
    assert frechet_distance(statistics_of(x @ turn + shift), statistics_of(y @ turn + shift)) == pytest.approx(
        before, rel=1e-10
    )
    assert frechet_distance(statistics_of(3 * x), statistics_of(3 * y)) == pytest.approx(9 * before, rel=1e-10)


def test_singular_covariances_equal_those_of_the_subspace() -> None:
    """Dimensions without variance add nothing; scipy gives the rest."""
    x, y = normal(60, 5) @ normal(5, 5), normal(60, 5)
    into = orthogonal(40)[:5]
    expected = published(np.asarray(x), np.asarray(y))
    assert frechet_distance(statistics_of(x @ into), statistics_of(y @ into)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("d", [3, 60])
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_covariance_has_a_factor_of_its_rank(d: int, rank: int) -> None:
    turn = orthogonal(d)[:, :rank] * 10 ** -torch.arange(rank, dtype=torch.float64)
    covariance = turn @ turn.T
    factor = covariance_factor(covariance)
    assert factor.shape == (d, rank)
    assert torch.allclose(factor @ factor.T, covariance, rtol=0, atol=1e-15)


def test_singular_covariances_over_many_decades_keep_every_digit() -> None:
    """The roots of the eigenvalues of C_1 C_2 lose half of them. Truth: singular values of the vectors, without C."""
    scales = torch.logspace(0, -4, 40, dtype=torch.float64)
    for n, m in ((30, 25), (30, 300), (300, 300)):
        x, y = normal(n, 40) * scales @ orthogonal(40), normal(m, 40) * scales @ orthogonal(40)
        a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
        cross = torch.linalg.svdvals(torch.linalg.qr(a).R @ torch.linalg.qr(b).R.T).sum()
        expected = (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * cross
        assert frechet_distance(statistics_of(x), statistics_of(y)) == pytest.approx(expected.item(), rel=1e-11)


def test_other_nets_features_are_refused() -> None:
    with pytest.raises(LacunaError, match="different nets cannot be compared: those of made up are by net A"):
        frechet_distance(statistics_of(normal(9, 3), "net A"), statistics_of(normal(9, 3), "net B"))
    with pytest.raises(LacunaError, match="different nets"):
        frechet_distance(statistics_of(normal(9, 3)), statistics_of(normal(9, 4)))


# ---------------------------------------------------------------------- the moments


def moments_of(parts: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    moments = Moments()
    for part in parts:
        moments.update(part)
    assert moments.n == sum(map(len, parts))
    return moments.compute()


def relative_error(covariance: Tensor, x: Tensor) -> float:
    """Of a covariance, against two passes over all vectors, relative to the standard deviations."""
    expected = torch.from_numpy(np.cov(x.numpy(), rowvar=False))
    deviations = expected.diagonal().sqrt()
    return float(((covariance - expected) / deviations.outer(deviations)).abs().max())


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("size", [1, 7, 64, 500])
def test_moments_are_numpys_for_any_batches(size: int, offset: float) -> None:
    """Also far from the origin, where a sum of squares would have lost every digit of the covariance but four."""
    x = normal(300, 8) @ normal(8, 8) + offset
    mean, covariance = moments_of(x.split(size))
    assert torch.allclose(mean, x.mean(0), rtol=1e-15, atol=1e-14)
    assert relative_error(covariance, x) < 2e-13
    assert torch.equal(covariance, covariance.T)


def test_covariances_wider_than_a_block_are_mirrored_whole() -> None:
    x = normal(400, 2 * BLOCK + 3) + normal(2 * BLOCK + 3)
    covariance = moments_of(x.split(150))[1]
    assert relative_error(covariance, x) < 1e-13
    assert torch.equal(covariance, covariance.T)


@pytest.mark.gpu
def test_moments_on_a_gpu_are_those_on_the_cpu() -> None:
    x = normal(300, 40) + 1e3
    for found, expected in zip(moments_of(x.cuda().split(64)), moments_of(x.split(64)), strict=True):
        assert torch.allclose(found.cpu(), expected, rtol=1e-12, atol=1e-14)


def test_moments_of_sets_far_from_each_other() -> None:
    x = torch.cat([normal(100, 5) + 1e6, normal(150, 5) - 1e6])
    first, second = Moments(), Moments()
    first.update(x[:100])
    second.update(x[100:])
    first.merge(second)
    for covariance in (first.compute()[1], moments_of(x.split(50))[1]):
        assert relative_error(covariance, x) < 2e-13


def test_moments_are_summed_in_double_precision() -> None:
    x = (normal(2000, 3) + 100).float()
    found = moments_of(x.split(100))
    assert found[1].dtype == torch.float64
    assert np.allclose(found[1], np.cov(x.double().numpy(), rowvar=False), rtol=1e-11, atol=0)


def test_merged_moments_are_those_of_all_vectors() -> None:
    x = normal(50, 4)
    first, second, nothing = Moments(), Moments(), Moments()
    first.update(x[:13])
    second.update(x[13:])
    nothing.update(x[:0])
    nothing.merge(second)
    first.merge(nothing)
    first.merge(Moments())
    for found, expected in zip(first.compute(), moments_of((x,)), strict=True):
        assert torch.allclose(found, expected, rtol=1e-13, atol=1e-15)
    assert torch.equal(second.compute()[0], moments_of((x[13:],))[0]), "what was merged is left as it was"


def test_one_image_has_no_covariance() -> None:
    moments = Moments()
    with pytest.raises(LacunaError, match="at least 2 images, and 0 were given"):
        moments.compute()
    moments.update(normal(1, 3))
    with pytest.raises(LacunaError, match="and 1 were given"):
        moments.compute()


# ---------------------------------------------------------------------- of images


def flat(images: Tensor) -> Tensor:
    return images.flatten(1)


PIXELS = Features(flat, name="pixels", layer="input")
REAL = torch.rand(200, 1, 2, 3, generator=GENERATOR)
FAKE = torch.rand(150, 1, 2, 3, generator=GENERATOR) ** 2


def fid_of(images: Tensor, size: int = 40, features: Features = PIXELS) -> FID:
    fid = FID(features, statistics(features, REAL.split(64), "real"), "fake")
    for batch in images.split(size):
        fid.update(batch)
    return fid


def test_from_images_to_the_number() -> None:
    """The pixels are the features: numpy and scipy on the rounded images say the same, for any batches."""
    real, fake = ((images.double() * 255).round().flatten(1).numpy() / 255 for images in (REAL, FAKE))
    expected = published(real, fake)
    for size in (1, 40, 150):
        assert fid_of(FAKE, size).compute().value == pytest.approx(expected, rel=1e-6)
    assert fid_of(REAL).compute().value < 1e-12


def test_the_protocol_says_what_the_number_is() -> None:
    score = fid_of(FAKE).compute()
    for said in ("n=150 fake", "n=200 real", "pixels", "layer input", "not resized", "8 bits", "6 features", "n - 1"):
        assert said in score.protocol
    assert "160x160" in Features(flat, name="pixels", resize=160).protocol


def test_too_few_images_for_the_features_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"FID of 6 images \(fake\) in 6 features: the covariance is singular"):
        fid_of(FAKE[:6]).compute()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fid_of(FAKE[:7]).compute()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_model_is_detected(value: float) -> None:
    images = FAKE.clone()
    images[3, 0, 1, 1] = value
    assert math.isnan(fid_of(images).compute().value)


def test_reset_forgets_the_images_only() -> None:
    fid = fid_of(REAL[:50])
    fid.reset()
    with pytest.raises(LacunaError, match="0 were given"):
        fid.compute()
    fid.update(FAKE)
    assert fid.compute().value == pytest.approx(fid_of(FAKE).compute().value, rel=1e-12)
