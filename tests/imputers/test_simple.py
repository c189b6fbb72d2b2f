from __future__ import annotations

import numpy as np
import pytest
import torch

from lacuna.errors import LacunaError
from lacuna.imputers.simple import Mean, Zero
from lacuna.registry import build


def test_zero_is_black() -> None:
    images, mask = torch.rand(4, 3, 5, 5), torch.rand(4, 1, 5, 5) > 0.5
    assert torch.equal(Zero().impute(images, mask), images * mask)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("as_uint8", [False, True])
def test_mean_of_observed_values(channels: int, as_uint8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against numpy's nanmean; the chunks the sums are taken in change nothing."""
    monkeypatch.setattr("lacuna.imputers.simple.CHUNK", 7)
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (40, 3, 4, 4), dtype=np.uint8)
    mask = np.broadcast_to(rng.random((40, channels, 4, 4)) > 0.5, stored.shape).copy()
    mask[:, :, 1, 2] = False  # never observed
    images = torch.from_numpy(stored) if as_uint8 else torch.from_numpy(stored).float() / 255
    mean = Mean()
    mean.fit(images, torch.from_numpy(mask[:, :channels]))
    values = np.where(mask, stored / 255, np.nan)
    expected = np.full((3, 4, 4), np.nanmean(values))
    shown = mask.any(0)
    expected[shown] = np.nanmean(values[:, shown], axis=0)
    filled = mean.impute(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool))
    assert np.abs(filled[0].numpy() - expected).max() < 1e-6


def test_mistakes_are_named() -> None:
    images, mask = torch.rand(4, 1, 5, 5), torch.ones(4, 1, 5, 5, dtype=torch.bool)
    with pytest.raises(LacunaError, match="must be boolean"):
        Zero().impute(images, mask.float())
    with pytest.raises(LacunaError, match="do not fit"):
        Zero().impute(images, mask[:2])
    with pytest.raises(LacunaError, match="floating-point images"):
        Zero().impute((images * 255).byte(), mask)
    with pytest.raises(LacunaError, match="cannot sample"):
        Zero().sample(images, mask, 2)
    with pytest.raises(LacunaError, match="at least 1"):
        Zero().sample(images, mask, 0)
    with pytest.raises(LacunaError, match="nothing to average"):
        Mean().fit(images, ~mask)
    with pytest.raises(LacunaError, match="no images"):
        Mean().fit(images[:0], mask[:0])
    with pytest.raises(LacunaError, match="is not fitted"):
        Mean().impute(images, mask)
    with pytest.raises(LacunaError, match=r"imputer\.donors=0"):
        Mean(donors=0)


def test_built_from_a_config() -> None:
    assert isinstance(build("imputer", {"type": "simple.Zero", "name": "zero"}), Zero)
    assert build("imputer", {"type": "knn.KNN", "name": "knn", "k": 3, "donors": None}).donors is None
