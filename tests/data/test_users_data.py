"""A user's own images: numpy files and folders, with and without missing pixels and labels."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from lacuna.data.sources.arrays import Arrays
from lacuna.data.sources.folder import Folder
from lacuna.errors import LacunaError


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)


@pytest.fixture
def save(tmp_path):
    def write(name="mine.npz", **arrays):
        path = tmp_path / name
        np.savez(path, **arrays)
        return str(path)

    return write


def prepared(path, root, **options):
    return Arrays(path, **options).prepare(root)


def test_npy_of_grey_images(tmp_path):
    images = pixels(10, 5, 6)
    np.save(tmp_path / "x.npy", images)
    data = prepared(str(tmp_path / "x.npy"), tmp_path)
    assert data.provenance.counts == {"train": 8, "test": 2} and data.provenance.classes is None
    assert data.provenance.lossless
    both = np.concatenate([data.split("train").images, data.split("test").images])[:, 0]
    assert sorted(map(bytes, both)) == sorted(map(bytes, images))
    assert data.split("train").observed is None


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_npz_with_everything(save, tmp_path, layout):
    images, test, mask = pixels(6, 5, 7, 3), pixels(4, 5, 7, 3, seed=1), pixels(6, 5, 7) > 99
    mask[:, 0, 0] = True
    laid = (lambda x: x) if layout == "NHWC" else (lambda x: x.transpose(0, 3, 1, 2))
    labels, test_labels = np.array(["cat", "ant", "cat", "bee", "ant", "ant"]), np.array(["bee", "cat", "ant", "ant"])
    path = save(images=laid(images), labels=labels, mask=mask, test_images=laid(test), test_labels=test_labels)
    data = prepared(path, tmp_path)
    train = data.split("train")
    np.testing.assert_array_equal(train.images, (images * mask[..., None]).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(train.observed, mask[:, None])
    np.testing.assert_array_equal(train.labels, [2, 0, 2, 1, 0, 0])
    np.testing.assert_array_equal(data.split("test").labels, [1, 2, 0, 0])
    assert data.split("test").observed is None
    assert data.provenance.classes == 3 and data.provenance.class_names == ("ant", "bee", "cat")


def test_floats_with_nan(save, tmp_path):
    images = pixels(5, 4, 4, 3).astype(np.float32) / 255
    images[0, 1, 2] = np.nan  # all channels
    expected = np.round(np.nan_to_num(images) * 255).transpose(0, 3, 1, 2)
    data = prepared(save(images=images, test_images=images), tmp_path)
    np.testing.assert_array_equal(data.split("train").images, expected)
    assert data.split("train").observed.shape == (5, 1, 4, 4) and not data.split("train").observed[0, 0, 1, 2]
    assert data.split("train").observed.sum() == 5 * 16 - 1
    assert not data.provenance.lossless and "1/255" in data.provenance.note
    images[1, 0, 0, 2] = np.nan  # one channel only
    data = prepared(save(images=images, test_images=images), tmp_path)
    assert data.split("train").observed.shape == (5, 3, 4, 4) and data.split("train").observed[1, :2, 0, 0].all()


def test_a_changed_file_is_prepared_again(save, tmp_path):
    path = save(images=pixels(5, 4, 4))
    first = Arrays(path).set_name
    assert Arrays(path).set_name == first
    assert Arrays(path, test_fraction=0.4).set_name != first
    save(images=pixels(5, 4, 4, seed=1))
    assert Arrays(path).set_name != first and first.startswith("arrays-mine-")


def nan_images():
    images = np.full((3, 4, 4), 0.5)
    images[1] = np.nan
    return images


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": pixels(3, 4, 4)}, "needs 'images'"),
        ({"images": pixels(3, 4, 4) * 1.0}, "from .* images must be uint8 or floats"),
        ({"images": pixels(3, 4, 4).astype(int) + 300}, "images must be uint8"),
        ({"images": np.array([["a"]])[..., None]}, "holds <U1 values"),
        ({"images": pixels(3, 4)}, r"give \(N, H, W\)"),
        ({"images": pixels(3, 4, 4, 4)}, "there must be 1 or 3 channels"),
        ({"images": pixels(3, 4, 4), "labels": np.array([0, 1, np.nan])}, "label of 'train' image 2 is missing or NaN"),
        ({"images": pixels(3, 4, 4), "labels": np.array(["a", "nan", ""])}, r"'train' image 1 .* \(2 such images\)"),
        ({"images": pixels(3, 3, 4, 3)}, "set data.layout"),
        ({"images": pixels(3, 4, 4), "labels": np.arange(2)}, "labels have shape"),
        ({"images": pixels(3, 4, 4), "mask": np.ones((3, 4, 5))}, "their masks"),
        ({"images": pixels(3, 4, 4), "test_images": pixels(3, 4, 4), "labels": np.arange(3)}, "give all splits labels"),
        ({"images": pixels(3, 4, 4), "test_images": pixels(3, 4, 5)}, "of one shape"),
        ({"images": pixels(1, 4, 4)}, "cannot be split"),
        (
            {"images": nan_images(), "test_images": pixels(3, 4, 4)},
            "image 1 of the split 'train' has no observed pixel",
        ),
    ],
)
def test_unusable_arrays_are_refused(save, tmp_path, arrays, words):
    with pytest.raises(LacunaError, match=words):
        prepared(save(**arrays), tmp_path)


def test_a_layout_that_does_not_fit_is_refused(save, tmp_path):
    with pytest.raises(LacunaError, match=r"1 or 3 channels where data\.layout=NCHW has the channels"):
        prepared(save(images=pixels(5, 8, 8, 3)), tmp_path, layout="NCHW")


def test_unusual_classes_give_a_warning(save, tmp_path, capsys):
    prepared(save(images=pixels(5, 4, 4), labels=np.full(5, 7)), tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "only the class '7'" in said[0]
    images = pixels(4, 4, 4)
    labels = {"labels": np.array(["a", "b", "a", "b"]), "test_labels": np.array(["a", "c", "d", "b"])}
    prepared(save(images=images, test_images=images, **labels), tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "no training image of 2 of its 4 classes ('c', 'd')" in said[0]
    prepared(save(images=images, test_images=images, labels=labels["labels"], test_labels=labels["labels"]), tmp_path)
    assert not capsys.readouterr().err


def test_the_users_files_are_read_for_the_name_once(save, tmp_path, monkeypatch):
    put(tmp_path / "photos" / "a.png", pixels(4, 4))
    put(tmp_path / "photos" / "b.png", pixels(4, 4, seed=1))
    for source in (Arrays(save(images=pixels(5, 4, 4))), Folder(str(tmp_path / "photos"))):
        name, digests = source.set_name, []
        with monkeypatch.context() as patch:
            patch.setattr(hashlib, "sha256", digests.append)
            assert source.set_name == name and not digests
        assert source.prepare(tmp_path).provenance.name == name


def test_unusable_files_and_settings_are_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no archive")
    with pytest.raises(LacunaError, match="cannot be read"):
        prepared(str(tmp_path / "x.npz"), tmp_path)
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(LacunaError, match="without pickled objects"):
        prepared(str(tmp_path / "o.npy"), tmp_path)
    with pytest.raises(LacunaError, match=r"data\.path is empty"):
        Arrays()
    with pytest.raises(LacunaError, match="is not a file"):
        Arrays("nowhere.npz")
    with pytest.raises(LacunaError, match=r"data\.layout=HWC"):
        Arrays(str(tmp_path / "x.npz"), layout="HWC")
    np.save(tmp_path / "y.npy", pixels(4, 3, 3))
    with pytest.raises(LacunaError, match=r"data\.test_fraction=1"):
        prepared(str(tmp_path / "y.npy"), tmp_path, test_fraction=1.0)


def put(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_folder_with_splits_and_classes(tmp_path):
    home = tmp_path / "photos"
    for split, n in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            for i in range(n):
                put(home / split / name / f"{i}.png", pixels(6, 5, 3, seed=i + 10 * n))
    data = Folder(str(home)).prepare(tmp_path)
    assert data.provenance.counts == {"train": 6, "test": 4} and data.provenance.shape == (3, 6, 5)
    assert data.provenance.class_names == ("cat", "dog") and data.provenance.lossless
    np.testing.assert_array_equal(data.split("train").labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(data.split("test").images[1], pixels(6, 5, 3, seed=21).transpose(2, 0, 1))


def test_folder_with_missing_pixels(tmp_path):
    home = tmp_path / "photos"
    whole, alpha = pixels(6, 6, 3), np.full((6, 6), 255, np.uint8)
    alpha[2:4, 1] = 0
    put(home / "a.png", np.dstack([whole, alpha]))
    put(home / "b.png", whole)
    mask = np.full((6, 6), 255, np.uint8)
    mask[5] = 0
    put(home / "b_mask.png", mask)
    source = Folder(str(home), test_fraction=0.5)
    data = source.prepare(tmp_path)
    assert data.provenance.counts == {"train": 1, "test": 1} and data.provenance.classes is None
    found = {}
    for split in ("train", "test"):
        arrays = data.split(split)
        assert arrays.labels is None and arrays.observed is not None
        found[int((~arrays.observed).sum())] = (arrays.images, arrays.observed)
    for count, missing in ((2, alpha == 0), (6, mask == 0)):
        np.testing.assert_array_equal(found[count][1][0, 0], ~missing)
        np.testing.assert_array_equal(found[count][0][0], np.where(missing, 0, whole.transpose(2, 0, 1)))


def test_folder_with_csv_and_grey_images(tmp_path):
    home = tmp_path / "photos"
    for i in range(4):
        put(home / f"{i}.png", pixels(4, 4, seed=i))
    (home / "labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{'xy'[i % 2]}\n" for i in range(4)))
    source = Folder(str(home), labels_csv="labels.csv", test_fraction=0.5)
    data = source.prepare(tmp_path)
    assert data.provenance.shape == (1, 4, 4) and data.provenance.class_names == ("x", "y")
    name = source.set_name
    (home / "labels.csv").write_text("file,label\n0.png,x\n")
    changed = Folder(str(home), labels_csv="labels.csv")
    assert changed.set_name != name
    with pytest.raises(LacunaError, match=r"no row for \d.png"):
        changed.prepare(tmp_path)
    (home / "labels.csv").write_text("name,label\n0.png,x\n")
    with pytest.raises(LacunaError, match="needs the columns file and label"):
        Folder(str(home), labels_csv="labels.csv").prepare(tmp_path)


def test_folder_resizes_on_request(tmp_path):
    home = tmp_path / "photos"
    put(home / "a.png", np.full((8, 12, 3), 100, np.uint8))
    put(home / "b.png", np.full((16, 16, 3), 100, np.uint8))
    mask = np.full((16, 16), 255, np.uint8)
    mask[:4, :4] = 0
    put(home / "b_mask.png", mask)
    with pytest.raises(LacunaError, match=r"set data\.size"):
        Folder(str(home), test_fraction=0.5).prepare(tmp_path)
    data = Folder(str(home), size=4, test_fraction=0.5).prepare(tmp_path)
    assert data.provenance.shape == (3, 4, 4) and "resized to 4x4" in data.provenance.note
    for split in ("train", "test"):
        arrays = data.split(split)
        observed = np.ones((1, 1, 4, 4), bool) if arrays.observed is None else arrays.observed
        assert (arrays.images[np.broadcast_to(observed, arrays.images.shape)] == 100).all()
        if arrays.observed is not None:  # the incomplete image
            assert not observed[0, 0, 0, 0] and observed[0, 0, 2:, 2:].all()


def test_unusable_folders_are_refused(tmp_path):
    with pytest.raises(LacunaError, match="is not a folder"):
        Folder("nowhere")
    home = tmp_path / "photos"
    home.mkdir()
    with pytest.raises(LacunaError, match="holds no image"):
        Folder(str(home))
    with pytest.raises(LacunaError, match="is not a file"):
        Folder(str(home), labels_csv="x.csv")
    with pytest.raises(LacunaError, match="mask_suffix is empty"):
        Folder(str(home), mask_suffix="")
    put(home / "a.png", pixels(4, 4))
    put(home / "b.png", pixels(4, 4))
    put(home / "b_mask.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(LacunaError, match=r"b.png has no observed pixel"):
        Folder(str(home)).prepare(tmp_path)
    put(home / "b_mask.png", np.full((4, 5), 255, np.uint8))
    with pytest.raises(LacunaError, match=r"must have the same size as"):
        Folder(str(home)).prepare(tmp_path)
    (home / "b.png").write_bytes(b"no picture")
    with pytest.raises(LacunaError, match=r"b.png cannot be read as an image"):
        Folder(str(home)).prepare(tmp_path)


def test_a_mask_without_its_image_is_refused(tmp_path):
    put(tmp_path / "a.png", pixels(4, 4))
    put(tmp_path / "deep" / "a_mask.png", pixels(4, 4))
    with pytest.raises(LacunaError, match=r"deep/a_mask\.png is named like a mask \(data\.mask_suffix=_mask\)"):
        Folder(str(tmp_path))
    assert len(Folder(str(tmp_path), mask_suffix="_gaps").names) == 2
    put(tmp_path / "deep" / "a.jpg", pixels(4, 4))  # the endings may differ
    assert [name.as_posix() for name in Folder(str(tmp_path)).names] == ["a.png", "deep/a.jpg"]


def test_a_row_without_a_label_is_refused(tmp_path):
    for i in range(3):
        put(tmp_path / "photos" / f"{i}.png", pixels(4, 4, seed=i))
    (tmp_path / "photos" / "labels.csv").write_text("file,label\n0.png,x\n1.png\n2.png,y\n")
    with pytest.raises(LacunaError, match=r"is missing or NaN \(1 such images\)"):
        Folder(str(tmp_path / "photos"), labels_csv="labels.csv").prepare(tmp_path)


def test_pictures_of_sixteen_bits_are_refused(tmp_path):
    for i in range(3):
        Image.fromarray(pixels(5, 5, seed=i).astype(np.uint16) * 257).save(tmp_path / f"{i}.png")
    with pytest.raises(LacunaError, match=r"0\.png has more than 8 bits per channel"):
        Folder(str(tmp_path)).prepare(tmp_path / "root")


@pytest.mark.parametrize("size", [0, -3, 2.5, True])
def test_an_impossible_size_is_refused(tmp_path, size):
    Image.fromarray(pixels(5, 5)).save(tmp_path / "0.png")
    with pytest.raises(LacunaError, match=f"data.size={size} must be null or a whole number"):
        Folder(str(tmp_path), size=size)
