"""Real digits: the errors of classical imputers, measured elsewhere by other code (reference/prflow.md 2.6 and 6).

Pooled RMSE of hidden pixels on [0, 1], one Bernoulli mask an image; here every tenth standard test image (the first
5000 are cleaner than the others), there 1000.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lacuna.data.masks import Bernoulli
from lacuna.data.prepared import PreparedData
from lacuna.data.sources.mnist import MNIST
from lacuna.imputers.base import Imputer
from lacuna.imputers.gaussian import Gaussian
from lacuna.imputers.harmonic import Harmonic
from lacuna.imputers.linear import Linear
from lacuna.imputers.nearest import Nearest, RingNearest
from lacuna.imputers.simple import Mean, Zero
from lacuna.metrics.masked import rmse
from lacuna.tasks.mcflow.hyper_laplacian import hyper_laplacian

DATA = os.environ.get("LACUNA_TEST_DATA", "")
pytestmark = [pytest.mark.real_data, pytest.mark.skipif(not DATA, reason="LACUNA_TEST_DATA is not set")]

RATES = (0.6, 0.7, 0.8, 0.9)
SHAPE = (1, 28, 28)
# what, what was measured there, and how far off other masks and images may be
TABLE: dict[str, tuple[Callable[[], Imputer], tuple[float, ...], float]] = {
    "zero": (Zero, (0.3370, 0.3375, 0.3371, 0.3372), 0.003),
    "ring": (RingNearest, (0.2196, 0.2250, 0.2389, 0.2745), 0.005),
    "nearest": (Nearest, (0.1988, 0.2085, 0.2268, 0.2670), 0.005),
    "linear": (Linear, (0.1458, 0.1612, 0.1839, 0.2254), 0.005),
    "harmonic": (lambda: Harmonic(1), (0.1496, 0.1667, 0.1889, 0.2249), 0.005),
    "biharmonic": (Harmonic, (0.1233, 0.1446, 0.1740, 0.2243), 0.007),  # 150 images there
}
# the same, fitted on 9000 incomplete images
FITTED: dict[str, tuple[Callable[[], Imputer], tuple[float, ...], float]] = {
    "mean": (Mean, (0.2590, 0.2593, 0.2589, 0.2591), 0.005),
    "gaussian": (Gaussian, (0.1310, 0.1500, 0.1722, 0.2089), 0.008),  # 200 images there
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The first 9000 training images and every tenth test image, uint8."""
    root = tmp_path_factory.mktemp("mnist")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (Path(DATA) / "MNIST" / "raw").glob("*.gz"):
        (raw / path.name).write_bytes(path.read_bytes())
    MNIST().prepare(root, download=False)
    prepared = PreparedData(MNIST().folder(root))
    train, test = (prepared.split(split).images for split in ("train", "test"))
    return {"train": torch.tensor(train[:9000]), "test": torch.tensor(test[::10])}


def masked(images: Tensor, rate: float, split: str) -> Tensor:
    return Bernoulli(rate)(torch.arange(len(images)), SHAPE, seed=0, split=split)


def error(imputer: Imputer, images: Tensor, rate: float) -> float:
    truth, mask = images.float() / 255, masked(images, rate, "test")
    return float(rmse(imputer.impute(truth, mask), truth, ~mask))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", TABLE)
def test_interpolators(name: str, rate: float, digits: dict[str, Tensor]) -> None:
    new, expected, tolerance = TABLE[name]
    assert error(new(), digits["test"], rate) == pytest.approx(expected[RATES.index(rate)], abs=tolerance)


@pytest.mark.parametrize("rate", [0.6, 0.9])
@pytest.mark.parametrize("name", FITTED)
def test_imputers_fitted_on_incomplete_images(name: str, rate: float, digits: dict[str, Tensor]) -> None:
    new, expected, tolerance = FITTED[name]
    imputer = new()
    imputer.fit(digits["train"], masked(digits["train"], rate, "train"))
    assert error(imputer, digits["test"], rate) == pytest.approx(expected[RATES.index(rate)], abs=tolerance)


def test_the_gradient_prior_of_digits_and_of_their_imputations(digits: dict[str, Tensor]) -> None:
    """Lower for the nearest pixel's fill than for the truth, higher for the linear one, and small beside noise's."""
    truth = digits["test"].float() / 255

    def cost(images: Tensor) -> float:
        return float(hyper_laplacian(images.double(), eps=1e-12).mean())

    def fill(imputer: Imputer, rate: float) -> float:
        return cost(imputer.impute(truth, masked(digits["test"], rate, "test")))

    assert cost(truth) == pytest.approx(176, rel=0.05)
    assert fill(RingNearest(), 0.6) == pytest.approx(178, rel=0.05)
    assert fill(Linear(), 0.6) == pytest.approx(224, rel=0.08)
    assert fill(Linear(), 0.9) == pytest.approx(247, rel=0.08)
    assert fill(Nearest(), 0.9) < fill(RingNearest(), 0.9) < 0.9 * cost(truth)
    assert cost(torch.rand(50, *SHAPE)) == pytest.approx(972, rel=0.02)
