"""scripts/prepare.py and scripts/masks.py, and real images if LACUNA_TEST_DATA names a folder with a load.py."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lacuna.data.prepared import PreparedData

REPOSITORY = Path(__file__).resolve().parents[2]


def script(name):
    spec = importlib.util.spec_from_file_location(f"script_{name}", REPOSITORY / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def prepare(tmp_path, capsys):
    main = script("prepare").main

    def run(*words):
        status = main([*map(str, words), "--root", str(tmp_path)])
        out = capsys.readouterr()
        return status, out.out + out.err

    return run


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def arrays(tmp_path):
    for split, n in (("train", 6), ("test", 3)):
        np.savez(tmp_path / f"{split}.npz", images=pixels(n, 32, 32, 3), labels=np.arange(n))
    return ["--train", tmp_path / "train.npz", "--test", tmp_path / "test.npz"]


def test_digits(prepare, tmp_path):
    status, text = prepare("digits")
    assert status == 0 and "1297 train, 500 test; images (1, 8, 8); complete set; fingerprint" in text


def test_from_files(prepare, arrays, tmp_path):
    status, text = prepare("svhn", *arrays, "--sample", "--lossy", "--note", "a few")
    assert status == 0 and "6 train, 3 test" in text and "SAMPLE, LOSSY" in text and "a few" in text
    data = PreparedData(tmp_path / "prepared" / "svhn")
    np.testing.assert_array_equal(data.split("train").images, pixels(6, 32, 32, 3).transpose(0, 3, 1, 2))
    assert data.split("test").labels is not None and data.provenance.source == "arrays from train.npz, test.npz"
    assert not data.provenance.complete and not data.provenance.lossless
    np.savez(arrays[1], images=pixels(7, 32, 32, 3), labels=np.arange(7))
    assert "Already prepared" in prepare("svhn", *arrays)[1]
    assert "7 train" in prepare("svhn", *arrays, "--force")[1]


READER = """
import numpy as np
def load(split, n=4, size=9):
    images = np.full((n, size, size + 2, 3), {"train": 10, "valid": 20, "test": 30}[split], np.uint8)
    return images, np.tile(np.arange(40) % 2, (n, 1))
def signs(split, yes=1):
    return load(split)[0], np.tile(yes * (np.arange(40) % 2 * 2 - 1), (4, 1))
def grey(split):
    return np.zeros((4, 28, 28, 1), np.uint8), np.arange(4)
number = 3
"""


def test_from_a_reader(prepare, tmp_path):
    (tmp_path / "mine.py").write_text(READER)
    status, text = prepare("celeba64", "--reader", f"{tmp_path / 'mine.py'}:load", "--reader-args", "n=5", "size=70")
    assert status == 0 and "5 train, 5 test; images (3, 64, 64); SAMPLE" in text
    assert "centre squares of 70x72 images, resized" in text
    data = PreparedData(tmp_path / "prepared" / "celeba64")
    assert (data.split("train").images == 10).all() and (data.split("test").images == 20).all()  # MisConv: valid
    assert data.provenance.source == "arrays from mine.py:load" and data.provenance.attributes == 40
    assert (data.split("test").labels == np.arange(40) % 2).all() and data.split("test").labels.dtype == np.uint8
    assert prepare("celeba32", "--reader", f"{tmp_path / 'mine.py'}:load")[0] == 0
    assert (PreparedData(tmp_path / "prepared" / "celeba32").split("test").images == 30).all()
    same = PreparedData(tmp_path / "prepared" / "celeba32").provenance.fingerprint
    assert f"fingerprint {same}" in prepare("celeba32", "--reader", f"{tmp_path / 'mine.py'}:signs", "--force")[1]
    assert "4 train" in prepare("mnist", "--reader", f"{tmp_path / 'mine.py'}:grey")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mnits"], "There is no data set 'mnits': choose one of celeba32"),
        (["arrays"], "There is no data set 'arrays'"),
        (["svhn", "--train", "TRAIN"], "Give --train and --test"),
        (["svhn", "--train", "nowhere.npz", "--test", "TRAIN"], "nowhere.npz does not exist"),
        (["svhn", "--train", "READER", "--test", "TRAIN"], "is not an .npz with images"),
        (["svhn", "--reader", "nowhere.py:load"], "give FILE.py:FUNCTION"),
        (["svhn", "--reader", "READER:nothing"], "has no function nothing"),
        (["svhn", "--reader", "READER:number"], "has no function number"),
        (["svhn", "--reader", "READER:load", "--reader-args", "x"], "give KEY=VALUE"),
        (["svhn", "--reader", "READER:load"], "need labels of shape (N,)"),
        (["celeba32", "--reader", "READER:grey"], "channels, the set has 3"),
        (["celeba32", "--reader", "READER:signs", "--reader-args", "yes=2"], "need no labels, or 40 attributes each"),
        (["celeba32", "--train", "TRAIN", "--test", "TRAIN"], "need no labels, or 40 attributes each"),
        (["mnist", "--train", "TRAIN", "--test", "TRAIN"], "have 3 channels, the set has 1"),
        (["svhn", "--train", "FLOAT", "--test", "TRAIN"], "must be uint8"),
        (["mnist", "--no-download"], "data.download=false"),
    ],
)
def test_mistakes_give_one_sentence(prepare, arrays, tmp_path, words, message):
    (tmp_path / "mine.py").write_text(READER)
    np.save(tmp_path / "float.npy", np.zeros((2, 32, 32, 3)))
    names = {"TRAIN": str(arrays[1]), "READER": str(tmp_path / "mine.py"), "FLOAT": str(tmp_path / "float.npy")}
    for word, value in names.items():
        words = [given.replace(word, value) for given in words]
    status, text = prepare(*words)
    assert status == 2 and text.startswith("error: ") and message in text and text.count("\n") == 1


def test_masks_picture(tmp_path, capsys):
    main = script("masks").main
    root = ["--root", str(tmp_path)]
    assert main([*root, "--out", str(tmp_path / "p" / "masks.png"), "--count", "3"]) == 0
    picture = np.asarray(Image.open(tmp_path / "p" / "masks.png").convert("RGB"))
    assert (picture == (86, 124, 190)).all(2).any() and picture.shape[0] > 500
    assert main([*root, "--data", "nothing"]) == 2 and main([*root, "--count", "0"]) == 2
    assert "There is no data 'nothing'" in capsys.readouterr().err


DATA = os.environ.get("LACUNA_TEST_DATA", "")
real = pytest.mark.skipif(not DATA, reason="LACUNA_TEST_DATA is not set")


@real
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "function", "shape", "mean"),
    [
        ("mnist", "load_mnist", (1, 28, 28), 33),
        ("svhn", "load_svhn", (3, 32, 32), 115),
        ("celeba32", "load_celeba", (3, 32, 32), 110),
        ("celeba64", "load_celeba", (3, 64, 64), 110),
    ],
)
def test_real_images(prepare, tmp_path, name, function, shape, mean):
    limit = 400
    reader = f"{Path(DATA) / 'load.py'}:{function}"
    status, text = prepare(name, "--reader", reader, "--reader-args", f"limit={limit}", "--sample")
    assert status == 0 and "SAMPLE" in text
    train = PreparedData(tmp_path / "prepared" / name).split("train")
    assert train.images.shape == (limit, *shape) and abs(train.images.mean() - mean) < 20
    assert train.labels is not None
    if name.startswith("celeba"):
        assert train.labels.shape == (limit, 40) and 0.1 < train.labels.mean() < 0.4  # most attributes are rare
    else:
        assert len(np.unique(train.labels)) == 10


@real
@pytest.mark.real_data
def test_real_mnist_archives_need_no_network(tmp_path):
    from lacuna.data.sources.mnist import MNIST

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (Path(DATA) / "MNIST" / "raw").glob("*.gz"):
        (raw / path.name).write_bytes(path.read_bytes())
    about = MNIST().prepare(tmp_path, download=False).provenance
    assert about.complete and about.counts == {"train": 60_000, "test": 10_000}
