"""Named sets: read from tiny files in the publishers' formats, prepared once, with one-sentence errors."""

from __future__ import annotations

import gzip
import hashlib
import multiprocessing
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import yaml
from PIL import Image

from lacuna import registry
from lacuna.data import hashing
from lacuna.data.sources import celeba
from lacuna.data.sources.base import Source
from lacuna.data.sources.celeba import CelebA
from lacuna.data.sources.cifar10 import CIFAR10
from lacuna.data.sources.digits import Digits
from lacuna.data.sources.mnist import MNIST
from lacuna.data.sources.svhn import SVHN
from lacuna.errors import LacunaError

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "data"


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_mnist(root, monkeypatch):
    """Four gzipped IDX files; returns the images and labels of both splits."""
    from torchvision.datasets import MNIST as Original

    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    data = {"train": (pixels(7, 28, 28), np.arange(7)), "t10k": (pixels(4, 28, 28, seed=1), np.arange(4)[::-1])}
    resources = []
    for stem, (images, labels) in data.items():
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            path = raw / f"{stem}-{kind}-ubyte.gz"
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            path.write_bytes(gzip.compress(header + array.tobytes()))
            resources.append((path.name, md5(path)))
    monkeypatch.setattr(Original, "resources", resources)
    return data["train"], data["t10k"]


def test_mnist(tmp_path, monkeypatch):
    train, test = write_mnist(tmp_path, monkeypatch)
    data = MNIST().prepare(tmp_path, download=False)  # the archives are there: unpacking needs no network
    for split, (images, labels) in (("train", train), ("test", test)):
        np.testing.assert_array_equal(data.split(split).images[:, 0], images)
        np.testing.assert_array_equal(data.split(split).labels, labels)
    about = data.provenance
    assert (about.name, about.classes, about.shape, about.complete) == ("mnist", 10, (1, 28, 28), False)


def test_svhn(tmp_path, monkeypatch):
    from torchvision.datasets import SVHN as Original

    images = {"train": pixels(6, 32, 32, 3), "test": pixels(3, 32, 32, 3, seed=1)}
    labels = {"train": np.array([10, 1, 2, 9, 10, 5]), "test": np.array([3, 10, 7])}
    table = {}
    for split, array in images.items():
        path = tmp_path / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": array.transpose(1, 2, 3, 0), "y": labels[split][:, None].astype(np.uint8)})
        table[split] = ["no address", path.name, md5(path)]
    monkeypatch.setattr(Original, "split_list", table)
    data = SVHN().prepare(tmp_path, download=False)
    for split in images:
        np.testing.assert_array_equal(data.split(split).images, images[split].transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(data.split(split).labels, labels[split] % 10)  # 10 stands for the digit 0


def test_cifar10(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10 as Original

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images, labels = pixels(12, 3, 32, 32), np.arange(12) % 10
    lists = []
    for i in range(6):
        path = folder / f"batch_{i}"
        rows = slice(2 * i, 2 * i + 2)
        path.write_bytes(pickle.dumps({"data": images[rows].reshape(2, -1), "labels": labels[rows].tolist()}))
        lists.append([path.name, md5(path)])
    names = [f"class {i}" for i in range(10)]
    meta = folder / "batches.meta"
    meta.write_bytes(pickle.dumps({"label_names": names}))
    monkeypatch.setattr(Original, "train_list", lists[:5])
    monkeypatch.setattr(Original, "test_list", lists[5:])
    monkeypatch.setattr(Original, "meta", {"filename": meta.name, "key": "label_names", "md5": md5(meta)})
    data = CIFAR10().prepare(tmp_path, download=False)
    np.testing.assert_array_equal(data.split("train").images, images[:10])
    np.testing.assert_array_equal(data.split("test").labels, labels[10:])
    assert data.provenance.class_names == tuple(names)


def write_celeba(root, n=9):
    """Aligned photographs 178x218 and the partition file; returns the photographs and their splits."""
    folder = root / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    parts = [0, 0, 2, 1, 0, 1, 2, 0, 0][:n]
    photographs = []
    for i in range(n):
        # smooth pictures: JPEG keeps them almost as they are
        y, x = np.mgrid[:218, :178]
        photo = np.stack([(x + 5 * i) % 256, y, (x + y) // 2], axis=2).astype(np.uint8)
        Image.fromarray(photo).save(folder / f"{i + 1:06d}.jpg", quality=98)
        photographs.append(np.asarray(Image.open(folder / f"{i + 1:06d}.jpg")))
    lines = "".join(f"{i + 1:06d}.jpg {part}\n" for i, part in enumerate(parts))
    (root / "celeba" / "list_eval_partition.txt").write_text(lines)
    return photographs, parts


def test_celeba_as_in_misconv(tmp_path):
    from torchvision.transforms import CenterCrop, Resize

    photographs, parts = write_celeba(tmp_path)
    data = CelebA(64, "misconv").prepare(tmp_path, download=False)
    assert data.folder.name == "celeba64" and data.provenance.classes is None and not data.provenance.complete
    for split, code in (("train", 0), ("test", 1)):  # the paper reports on the official valid split
        chosen = [photo for photo, part in zip(photographs, parts, strict=True) if part == code]
        expected = [np.asarray(CenterCrop(64)(Resize((120, 120))(Image.fromarray(photo)))) for photo in chosen]
        np.testing.assert_array_equal(data.split(split).images, np.stack(expected).transpose(0, 3, 1, 2))


def test_celeba_as_in_prflow(tmp_path, monkeypatch):
    photographs, _ = write_celeba(tmp_path)
    monkeypatch.setattr(celeba, "_FIRST", 6)
    data = CelebA(32, "prflow").prepare(tmp_path, download=False)
    assert data.folder.name == "celeba32"
    assert data.provenance.counts == {"train": 6, "test": 3}
    crop = Image.fromarray(photographs[6][55:163, 35:143])  # columns 35-142, rows 55-162
    expected = np.asarray(crop.resize((32, 32), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_array_equal(data.split("test").images[0], expected)


def write_attributes(root, n=9):
    """The table of attributes as it is published, for all photographs but in another order; what it says, (n, 40)."""
    yes = np.random.default_rng(5).integers(0, 2, (n, 40), dtype=np.uint8)
    lines = [f"{i + 1:06d}.jpg " + " ".join(f"{2 * value - 1:2d}" for value in map(int, yes[i])) for i in range(n)]
    heading = [str(n), " ".join(f"Attribute_{k}" for k in range(40)) + " "]
    (root / "celeba" / "list_attr_celeba.txt").write_text("\n".join([*heading, *reversed(lines), ""]))
    return yes


@pytest.mark.parametrize("protocol", ["misconv", "prflow"])
def test_attributes_of_celeba_belong_to_their_photograph(tmp_path, monkeypatch, protocol):
    _, parts = write_celeba(tmp_path)
    yes = write_attributes(tmp_path)
    monkeypatch.setattr(celeba, "_FIRST", 6)
    data = CelebA(32, protocol).prepare(tmp_path, download=False)
    assert (data.provenance.attributes, data.provenance.classes) == (40, None)
    wanted = [np.equal(parts, 0), np.equal(parts, 1)] if protocol == "misconv" else [np.s_[:6], np.s_[6:]]
    for split, rows in zip(("train", "test"), wanted, strict=True):
        found = data.split(split).labels
        np.testing.assert_array_equal(found, yes[rows])
        assert found.dtype == np.uint8


def test_celeba_without_attributes_is_recorded(tmp_path):
    write_celeba(tmp_path)
    without = CelebA(32).prepare(tmp_path, download=False).provenance
    assert without.attributes is None and "without attributes" in without.note
    write_attributes(tmp_path)
    has = CelebA(32).prepare(tmp_path, download=False, force=True).provenance
    assert "without attributes" not in has.note and has.fingerprint != without.fingerprint
    assert without.checksums.items() < has.checksums.items()


def test_damaged_attributes_of_celeba_are_named(tmp_path):
    write_celeba(tmp_path)
    write_attributes(tmp_path)
    table = tmp_path / "celeba" / "list_attr_celeba.txt"
    whole = table.read_text()
    last = whole.splitlines()[-1]
    for damage in (last[:-4], last.replace(" 1", " 3"), last.replace(" 1", " x"), "000001.jpg", ""):
        assert damage != last
        table.write_text(whole.replace(last, damage))
        with pytest.raises(LacunaError, match=r"list_attr_celeba\.txt is damaged: .* download it again, or remove it"):
            CelebA(32).prepare(tmp_path, download=False)


def test_celeba_damage_is_named(tmp_path):
    write_celeba(tmp_path)
    photo = tmp_path / "celeba" / "img_align_celeba" / "000005.jpg"
    photo.write_bytes(photo.read_bytes()[:2000])
    with pytest.raises(LacunaError, match=r"000005.jpg is missing or damaged"):
        CelebA().prepare(tmp_path, download=False)
    photo.unlink()
    with pytest.raises(LacunaError, match=r"000005.jpg is missing or damaged"):
        CelebA().prepare(tmp_path, download=False)
    partition = tmp_path / "celeba" / "list_eval_partition.txt"
    partition.write_text("000001.jpg\n")
    with pytest.raises(LacunaError, match="every line must be a file name and 0, 1 or 2"):
        CelebA().prepare(tmp_path, download=False)
    partition.write_text("000001.jpg 0\n")
    with pytest.raises(LacunaError, match="no image of the test split"):
        CelebA().prepare(tmp_path, download=False)


def test_celeba_names_and_refusals():
    assert CelebA(32, "misconv").set_name == "celeba32_misconv"
    with pytest.raises(LacunaError, match=r"data\.protocol=pr must be"):
        CelebA(64, "pr")
    with pytest.raises(LacunaError, match=r"data\.size=200 must be"):
        CelebA(200)


@pytest.mark.parametrize("source", [MNIST(), SVHN(), CIFAR10(), CelebA()], ids=lambda source: source.set_name)
def test_missing_files_without_network_name_the_command(tmp_path, source):
    with pytest.raises(LacunaError, match=r"data\.download=false") as caught:
        source.prepare(tmp_path, download=False)
    assert f"python scripts/prepare.py {source.set_name} --root {tmp_path}" in str(caught.value)
    assert not source.folder(tmp_path).exists()


def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch):
    from torchvision.datasets import SVHN as Original

    def offline(self):
        raise OSError("no route to host")

    monkeypatch.setattr(Original, "download", offline)
    with pytest.raises(LacunaError, match=r"could not be downloaded to .* \(no route to host\): check the network"):
        SVHN().prepare(tmp_path, download=True)


def test_digits(tmp_path):
    from sklearn.datasets import load_digits

    data = Digits().prepare(tmp_path, download=False)
    original, labels = load_digits(return_X_y=True)
    assert data.provenance.counts == {"train": 1297, "test": 500} and data.provenance.complete
    found = np.concatenate([data.split("test").images, data.split("train").images]).reshape(-1, 64)
    order = hashing.permutation(1797, "digits", "split")
    np.testing.assert_array_equal(np.round(found / 255 * 16), original[order])
    found_labels = np.concatenate([data.split("test").labels, data.split("train").labels])
    np.testing.assert_array_equal(found_labels, labels[order])
    assert np.bincount(found_labels[:500], minlength=10).min() > 30


class Counting(Digits):
    """Records every call of read in a file."""

    set_name = "counting"

    def read(self, root, *, download):
        with (root / "readings").open("a") as file:
            file.write("x")
        return super().read(root, download=download)


def prepare_counting(root, barrier):
    barrier.wait(30)
    Counting().prepare(root)


def test_prepared_once_by_many_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    workers = [context.Process(target=prepare_counting, args=(tmp_path, barrier)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    Counting().prepare(tmp_path)
    assert (tmp_path / "readings").read_text() == "x"
    Counting().prepare(tmp_path, force=True)
    assert (tmp_path / "readings").read_text() == "xx"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_build(path, tmp_path):
    spec = yaml.safe_load(path.read_text())
    assert spec["name"] == path.stem
    limits = [spec.pop(key) for key in ("validation", "train_images", "validation_images", "test_images")]
    assert limits == [None, None, None, None] and spec.pop("default_validation") >= 0
    if path.stem == "arrays":
        np.save(tmp_path / "x.npy", pixels(4, 3, 3))
        spec["path"] = str(tmp_path / "x.npy")
    if path.stem == "folder":
        Image.fromarray(pixels(3, 3)).save(tmp_path / "x.png")
        spec["path"] = str(tmp_path)
    source = registry.build("data", spec)
    assert isinstance(source, Source)
    assert path.stem in ("arrays", "folder") or source.set_name == path.stem
