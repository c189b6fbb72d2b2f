"""The Gaussian imputer against numpy, image by image, and against the Gaussian that made the images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers import gaussian
from lacuna.imputers.gaussian import RIDGES, Gaussian, conditional_mean, pair_covariance
from lacuna.imputers.simple import Mean

SHAPE = (2, 3, 4)
SIZE = 24


def truth() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of smooth random images, mid-grey, that hardly ever leave [0, 1]."""
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((SIZE, 4)) * 0.05
    return 0.4 + 0.2 * rng.random(SIZE), factors @ factors.T + 0.0004 * np.eye(SIZE)


def images(n: int, seed: int = 1) -> Tensor:
    drawn = np.random.default_rng(seed).multivariate_normal(*truth(), size=n)
    return torch.from_numpy(drawn).view(n, *SHAPE)


def masks(n: int, channels: int = 1, rate: float = 0.5, seed: int = 2) -> Tensor:
    return torch.rand(n, channels, *SHAPE[1:], generator=torch.Generator().manual_seed(seed)) > rate


def dense(image: np.ndarray, seen: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """The textbook formula for one image."""
    filled = mean.copy()
    filled += covariance[:, seen] @ np.linalg.solve(covariance[np.ix_(seen, seen)], (image - mean)[seen])
    return filled


@pytest.mark.parametrize("channels", [1, 2])
def test_the_conditional_mean_is_the_textbook_formula(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, mask = images(9), masks(9, channels)
    mask[3] = True
    mask[5] = False
    mean, covariance = truth()
    tensors = torch.from_numpy(mean).view(SHAPE), torch.from_numpy(covariance)
    expected = np.stack(
        [
            dense(image, seen, mean, covariance)
            for image, seen in zip(x.flatten(1).numpy(), mask.expand_as(x).flatten(1).numpy(), strict=True)
        ]
    )
    for numbers in (gaussian.ENTRIES, {"cpu": 1, "cuda": 1}):
        monkeypatch.setattr(gaussian, "ENTRIES", numbers)
        found = conditional_mean(torch.where(mask, x, 0), mask, *tensors)
        np.testing.assert_allclose(found.flatten(1).numpy(), expected, atol=1e-9)


def test_covariances_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pair by pair with numpy; of complete images it is numpy's cov; missing values are not read."""
    monkeypatch.setattr(gaussian, "CHUNK", 50)
    x, mask = images(120).float(), masks(120, 2)
    mask[:, 0, 0, 0] &= ~mask[:, 1, 2, 3]  # a pair that no image shows
    mean = torch.rand(SHAPE)
    found = pair_covariance(torch.where(mask, x, torch.nan), mask, mean).numpy()
    centred, seen = (x - mean).flatten(1).numpy(), mask.flatten(1).numpy()
    for i, j in np.ndindex(SIZE, SIZE):
        both = seen[:, i] & seen[:, j]
        expected = (centred[both, i] * centred[both, j]).mean() if both.any() else 0.0
        assert found[i, j] == pytest.approx(expected, abs=1e-6)
    complete = pair_covariance(x, torch.ones(120, 1, *SHAPE[1:], dtype=torch.bool), x.mean(0))
    np.testing.assert_allclose(complete.numpy(), np.cov(x.flatten(1).numpy().T, bias=True), atol=1e-6)


@pytest.mark.parametrize("rate", [0.3, 0.6])
def test_it_comes_close_to_the_gaussian_that_made_the_images(rate: float) -> None:
    imputer, mean = Gaussian(), Mean()
    for one in (imputer, mean):
        one.fit(images(40_000).float(), masks(40_000, rate=rate))
    x, mask = images(500, seed=8).float(), masks(500, rate=rate, seed=9)
    known = [torch.from_numpy(part).view(size) for part, size in zip(truth(), (SHAPE, (SIZE, SIZE)), strict=True)]
    best = conditional_mean(torch.where(mask, x, 0), mask, *known)
    error, floor, trivial = (
        float(torch.where(mask, 0, filled - x).square().mean())
        for filled in (imputer.impute(x, mask), best, mean.impute(x, mask))
    )
    assert floor <= error < 1.1 * floor < 0.5 * trivial


def test_the_training_images_choose_the_ridge() -> None:
    """More than a few images hardly need one; a handful of very incomplete ones need a large one."""

    def chosen(n: int, rate: float) -> float:
        imputer = Gaussian()
        imputer.fit(images(n).float(), masks(n, rate=rate))
        return float(torch.linalg.eigvalsh(imputer.covariance).min())

    many, few = chosen(4000, 0.3), chosen(25, 0.7)
    assert many < 2e-3 and few > many and any(few == pytest.approx(ridge, rel=1e-6) for ridge in RIDGES)
    imputer = Gaussian(ridge=0.02)
    imputer.fit(images(25).float(), masks(25, rate=0.7))
    assert float(torch.linalg.eigvalsh(imputer.covariance).min()) == pytest.approx(0.02)


def test_bytes_are_grey_levels() -> None:
    x, mask = (images(300) * 255).round().clamp(0, 255), masks(300)
    made = []
    for donors in (x.byte(), (x / 255).float()):
        imputer = Gaussian()
        imputer.fit(donors, mask)
        made.append(imputer.covariance)
    torch.testing.assert_close(*made)


def test_mistakes_are_named() -> None:
    with pytest.raises(LacunaError, match=r"imputer\.donors=0"):
        Gaussian(donors=0)
    with pytest.raises(LacunaError, match=r"imputer\.ridge=0\.0"):
        Gaussian(ridge=0.0)
    with pytest.raises(LacunaError, match="is not fitted"):
        Gaussian().impute(images(2).float(), masks(2))
    imputer = Gaussian(ridge=0.1)
    imputer.fit(images(9).float(), masks(9))
    with pytest.raises(LacunaError, match="was fitted on images"):
        imputer.impute(torch.rand(2, 1, 3, 4), masks(2))


def test_images_whose_covariance_would_not_fit_are_refused() -> None:
    images = torch.rand(2, 3, 160, 160)
    with pytest.raises(LacunaError, match="these have 76800, whose covariance would take 43 GB"):
        Gaussian().fit(images, torch.ones(2, 1, 160, 160, dtype=torch.bool))
