"""Numpy files of users: masks of every kind, names of arrays, values that leave [0, 1] by rounding."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lacuna.data.sources.arrays import Arrays
from lacuna.data.sources.folder import Folder
from lacuna.errors import LacunaError

OBSERVED = np.random.default_rng(1).random((6, 5, 5)) > 0.3
IMAGES = np.random.default_rng(0).integers(1, 256, (6, 5, 5), dtype=np.uint8)


@pytest.fixture
def prepared(tmp_path):
    def prepare(**arrays):
        np.savez(tmp_path / "mine.npz", **arrays)
        return Arrays(str(tmp_path / "mine.npz")).prepare(tmp_path)

    return prepare


@pytest.mark.parametrize(
    "mask",
    [
        OBSERVED,
        OBSERVED.astype(np.int64),
        OBSERVED.astype(np.uint8) * 255,
        OBSERVED.astype(np.float32),
        np.where(OBSERVED, 1.0, np.nan),
        np.where(OBSERVED, 255.0, np.nan),
    ],
    ids=["bool", "int", "255", "float", "NaN", "255 and NaN"],
)
@pytest.mark.parametrize("name", ["observed", "mask"])
def test_masks_of_every_usual_kind_are_the_same_mask(prepared, mask, name):
    train = prepared(images=IMAGES, test_images=IMAGES, **{name: mask}).split("train")
    np.testing.assert_array_equal(train.observed[:, 0], OBSERVED)
    np.testing.assert_array_equal(train.images[:, 0], np.where(OBSERVED, IMAGES, 0))


@pytest.mark.parametrize(
    "mask",
    [OBSERVED * 0.5, OBSERVED * 2, OBSERVED + np.arange(6)[:, None, None], OBSERVED - 1, np.where(OBSERVED, 255, 1)],
)
def test_masks_of_another_convention_are_refused(prepared, mask):
    with pytest.raises(LacunaError, match=r"masks of the 'train' images .* hold the values .* 1 or 255 = observed"):
        prepared(images=IMAGES, observed=mask)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"masks": OBSERVED}, "holds an array 'masks', which is not understood: it needs 'images'"),
        ({"x_labels": np.arange(6)}, "holds an array 'x_labels'"),
        ({"observed": OBSERVED, "mask": OBSERVED}, "holds both 'observed' and 'mask', which are the same"),
        ({"train_images": IMAGES}, "holds both 'images' and 'train_images'"),
        ({"val_labels": np.arange(6)}, r"holds \['images', 'val_labels'\]: it needs 'images'"),
    ],
)
def test_no_array_is_ignored(prepared, arrays, words):
    with pytest.raises(LacunaError, match=words):
        prepared(images=IMAGES, **arrays)


def test_splits_have_the_usual_names(prepared):
    data = prepared(Train_images=IMAGES, val_images=IMAGES[:2], testing_images=IMAGES[:3])
    assert data.provenance.counts == {"train": 6, "validation": 2, "test": 3}


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("excess", [1e-7, 1e-6])
def test_values_that_leave_the_range_by_rounding_are_taken(prepared, kind, excess):
    images = (IMAGES / 255).astype(kind)
    images[0, 0, 0], images[0, 0, 1] = kind(1 + excess), kind(-excess)
    wanted = IMAGES.copy()
    wanted[0, 0, :2] = 255, 0
    np.testing.assert_array_equal(prepared(images=images, test_images=images).split("train").images[:, 0], wanted)


@pytest.mark.parametrize("value", [1.001, -0.001, np.inf, -np.inf])
def test_values_out_of_range_are_refused(prepared, value):
    images = IMAGES / 255
    images[0, 0, 0] = value
    with pytest.raises(LacunaError, match=r"images must be uint8 or floats in \[0, 1\]"):
        prepared(images=images)


def test_a_path_may_be_a_number(tmp_path, monkeypatch):
    """A config file that says ``path: 2024`` gives a whole number."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    Image.fromarray(IMAGES[0]).save(tmp_path / "2024" / "a.png")
    np.save(tmp_path / "0", IMAGES)
    (tmp_path / "0.npy").rename(tmp_path / "0")
    assert [name.name for name in Folder(2024).names] == ["a.png"]
    assert len(Arrays(0).everything().images) == 6
