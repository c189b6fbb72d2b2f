"""Incomplete images of a user: missing pixels have no truth, and splits may have different kinds of masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.runs.folder import RunFolder
from lacuna.runs.prepare import prepare_data
from lacuna.runs.resolve import resolve
from lacuna.runs.settings import Settings
from lacuna.training.run import execute

TINY = [
    "data=arrays", "density.training.epochs=1", "density.net.filters=[4,4]", "density.net.kernels=[3,3]",
    "net.training.epochs=1", "net.stages=[[4,1]]", "stem.filters=4",
]  # fmt: skip


def run(folder: Path, train: int, test: int, *overrides: str) -> RunFolder:
    """A run on images that lack a fifth of their pixels; ``train``, ``test``: channels of the masks, 0 = complete."""
    rng, arrays = np.random.default_rng(0), {}
    for split, n, channels in (("", 30, train), ("test_", 10, test)):
        arrays[f"{split}images"] = rng.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)
        arrays[f"{split}labels"] = np.arange(n) % 3
        if channels:
            arrays[f"{split}observed"] = rng.random((n, channels, 8, 8)) < 0.8
    np.savez(folder / "own.npz", **arrays)
    paths = [f"data.path={folder / 'own.npz'}", f"data.root={folder}"]
    config = compose(CONFIGS, "train", [*TINY, *paths, *overrides])
    settings = Settings(folder, folder, download=False, trainer={"accelerator": "cpu", "progress": False})
    return execute(resolve(config, prepare_data(config)), settings, announce=False)


@pytest.mark.parametrize(("train", "test"), [(3, 0), (1, 3), (3, 1)])
def test_splits_may_have_masks_of_different_kinds(tmp_path, train, test):
    metrics = run(tmp_path, train, test, "stem=mask", "mask=square").metrics["metrics"]
    assert np.isfinite(metrics["test/loss"]) and np.isfinite(metrics["complete/loss"])


@pytest.mark.parametrize("own", [0, 1, 3])
def test_a_density_without_a_mask_scheme_is_evaluated_on_held_out_pixels(tmp_path, own):
    metrics = run(tmp_path, own, own, "task=density", "mask=none").metrics["metrics"]
    assert np.isfinite(metrics["test/nll_per_dim"]) and metrics["test/mse"] > 0
    # where a fifth of the pixels is unknown everywhere, no window of the truth is whole
    assert ("test/ssim" in metrics) == (own == 0)


def test_misconv_learns_from_a_users_incomplete_images(tmp_path):
    assert np.isfinite(run(tmp_path, 3, 3, "stem=misconv", "mask=none").metrics["metrics"]["test/loss"])
