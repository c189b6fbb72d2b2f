"""No leak from training images that are set aside for validation, as in ``test_no_leak.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lacuna.data.module import IncompleteData
from lacuna.data.prepared import Arrays
from lacuna.training.loading import open_data
from tests.laws.test_no_leak import differences, noise_where, recipe, run_all, settings, tampering, user_file, visible

CARVE = ("data.validation=10",)
STEMS = ("misconv", "knn", "mean")


@pytest.fixture(scope="module", params=[0, 1], ids=["complete", "own mask"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without validation images, of which 10 training images are set aside."""
    return user_file(tmp_path_factory.mktemp("data"), request.param, validation=0)


@pytest.fixture(scope="module")
def data(file: Path) -> IncompleteData:
    return open_data(recipe(file, "stem=zero", *CARVE), settings(file, file.parent))


@pytest.fixture(scope="module")
def clean(file: Path) -> dict[str, Any]:
    """Results on the unchanged file."""
    return run_all(file, file.parent / "clean", *STEMS, more=CARVE)


def test_images_set_aside_for_validation_are_not_trained_on(data):
    assert data.positions("train")[0] == data.positions("validation")[0] == "train"
    train = torch.cat([batch.index for batch in data.train_dataloader()])
    aside = torch.cat([batch.index for batch in data.loader(data.validation)])
    assert len(train) == 30 and len(aside) == 10
    assert sorted([*train.tolist(), *aside.tolist()]) == list(range(40))
    # by their contents, too: the stored images differ in every pixel, so none is like another
    pictures = data.complete("train").batch(torch.arange(30)).truth.flatten(1)
    others = data.validation.batch(torch.arange(10)).truth.flatten(1)
    assert (torch.cdist(pictures, others) > 0.1).all()


def test_missing_values_change_nothing_where_validation_images_are_set_aside(file, data, clean, tmp_path, monkeypatch):
    """Changed missing values: of training images, no effect; of other images, on the metrics of densities only."""
    aside = data.positions("validation")[1]
    assert any("/validation/" in key for key in clean)
    for those in (False, True):

        def tamper(split: str, arrays: Arrays, those: bool = those) -> Arrays:
            if split != "train":
                return arrays
            chosen = np.isin(np.arange(len(arrays.images)), aside)[:, None, None, None]
            return noise_where(~visible(split, arrays) & (chosen == those), arrays)

        with monkeypatch.context() as patch:
            tampering(patch, tamper)
            changed = differences(clean, run_all(file, tmp_path / f"tampered {those}", *STEMS, more=CARVE))
        assert all(those and "dmfa" in key and "validation/" in key for key in changed), changed
        assert bool(changed) == those


def test_images_set_aside_for_validation_do_not_change_the_model(file, data, clean, tmp_path, monkeypatch):
    """Even their observed values may be arbitrary: they are evaluated, never trained on."""
    aside = data.positions("validation")[1]

    def tamper(split: str, arrays: Arrays) -> Arrays:
        if split != "train":
            return arrays
        return noise_where(np.isin(np.arange(len(arrays.images)), aside)[:, None, None, None], arrays)

    tampering(monkeypatch, tamper)
    changed = differences(clean, run_all(file, tmp_path / "tampered", *STEMS, more=CARVE))
    assert changed and all("validation/" in key for key in changed), changed
