"""What sub-folders mean: classes as torchvision's ImageFolder reads them, splits in any spelling, masks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from lacuna.data.sources.folder import Folder
from lacuna.errors import LacunaError


def grey(seed):
    return np.random.default_rng(seed).integers(1, 256, (5, 5), dtype=np.uint8)


def put(home, *names):
    """Images of different pixels, so that each is recognised."""
    for number, name in enumerate(names):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey([number, len(name)])).save(home / name)


def found(data, split):
    """Bytes of an image -> its class."""
    arrays = data.split(split)
    labels = [None] * len(arrays.images) if arrays.labels is None else arrays.labels.tolist()
    return dict(zip(map(bytes, np.asarray(arrays.images)), labels, strict=True))


def wanted(folder):
    """The same by torchvision."""
    return {np.asarray(Image.open(path)).tobytes(): label for path, label in ImageFolder(folder).samples}


def test_classes_are_the_first_folders_at_any_depth(tmp_path):
    files = [
        f"{kind}/{deep}{i}.png" for kind in ("cat", "dog") for deep in ("batch1/", "batch2/x/y/", "") for i in (1, 2)
    ]
    put(tmp_path / "home", *files)
    data = Folder(str(tmp_path / "home")).prepare(tmp_path)
    assert list(data.provenance.class_names) == ImageFolder(tmp_path / "home").classes == ["cat", "dog"]
    assert found(data, "train") | found(data, "test") == wanted(tmp_path / "home")


@pytest.mark.parametrize(
    "spelling",
    [
        ("train", "val", "test"),
        ("Train", "Valid", "Testing"),
        ("TRAINING", "validation", "TEST"),
        ("train", "", "test"),
    ],
)
def test_the_users_splits_are_kept_in_any_spelling(tmp_path, capsys, spelling):
    home, splits = tmp_path / "home", dict(zip(("train", "validation", "test"), spelling, strict=True))
    splits = {split: folder for split, folder in splits.items() if folder}
    put(
        home,
        *(f"{folder}/{kind}/deep/{i}{split}.png" for split, folder in splits.items() for kind in "ab" for i in (1, 2)),
    )
    data = Folder(str(home)).prepare(tmp_path)
    assert data.provenance.counts == dict.fromkeys(splits, 4) and data.provenance.class_names == ("a", "b")
    for split, folder in splits.items():
        assert found(data, split) == wanted(home / folder)
    assert not capsys.readouterr().err


def test_without_a_test_folder_validation_stays_and_training_images_are_set_aside_for_testing(tmp_path, capsys):
    home = tmp_path / "home"
    put(home, *(f"train/{kind}/{i}.png" for kind in "ab" for i in range(5)), "val/a/x.png", "val/b/yy.png")
    data = Folder(str(home)).prepare(tmp_path)
    assert data.provenance.counts == {"train": 8, "validation": 2, "test": 2}
    assert found(data, "validation") == wanted(home / "val")
    assert found(data, "train") | found(data, "test") == wanted(home / "train")
    assert "no test folder: 2 of the 10 images in train are set aside" in capsys.readouterr().err


def test_images_outside_the_splits_are_counted(tmp_path, capsys):
    put(tmp_path / "home", "train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png", "other/c/5.png", "6.png")
    data = Folder(str(tmp_path / "home")).prepare(tmp_path)
    assert data.provenance.counts == {"train": 2, "test": 2} and data.provenance.class_names == ("a", "b")
    assert "2 image(s) outside test, train are left out (6.png)" in capsys.readouterr().err


def test_ambiguous_splits_are_refused(tmp_path):
    put(tmp_path / "twice", "train/1.png", "val/2.png", "Valid/3.png", "test/4.png")
    with pytest.raises(LacunaError, match=r"Valid and .*val are both validation images"):
        Folder(str(tmp_path / "twice")).prepare(tmp_path)
    put(tmp_path / "none", "test/1.png", "2.png", "3.png")
    with pytest.raises(LacunaError, match="has a folder test but none named train"):
        Folder(str(tmp_path / "none")).prepare(tmp_path)


def test_labels_of_a_part_of_the_images_are_not_dropped_without_a_word(tmp_path, capsys):
    put(tmp_path / "home", *(f"cat/{i}.png" for i in range(5)), *(f"dog/x{i}.png" for i in range(5)), "stray.png")
    data = Folder(str(tmp_path / "home")).prepare(tmp_path)
    assert data.provenance.classes is None and sum(data.provenance.counts.values()) == 11
    assert "lie in no class folder, so there are no labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    "files",
    [
        ("images/1.png", "images/2.png", "masks/1.png", "masks/2.png"),
        ("Images/1.png", "Masks/1_seg.png"),
        ("1.png", "2.png", "mask/1_mask.png"),
        ("train/images/1.png", "train/masks/x.png", "test/images/1.png"),
    ],
)
def test_a_folder_of_masks_is_neither_images_nor_a_class(tmp_path, files):
    put(tmp_path / "home", *files)
    with pytest.raises(LacunaError, match=r"[mM]asks? looks like masks of the images beside it: .*_mask"):
        Folder(str(tmp_path / "home"))


def test_a_class_may_be_called_mask(tmp_path):
    put(tmp_path / "home", "mask/1.png", "mask/2.png", "no_mask/3.png", "no_mask/4.png")
    assert Folder(str(tmp_path / "home")).prepare(tmp_path).provenance.class_names == ("mask", "no_mask")
