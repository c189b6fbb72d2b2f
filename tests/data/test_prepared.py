"""Prepared folders: complete or absent, verified, readable without torch."""

from __future__ import annotations

import dataclasses
import errno
import json
import subprocess
import sys

import numpy as np
import pytest

from lacuna.data import prepared
from lacuna.data.hashing import hashes, key, permutation
from lacuna.data.prepared import Arrays, Description, PreparedData, write
from lacuna.errors import LacunaError


def images(n, seed=0, shape=(3, 4, 5)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


@pytest.fixture
def splits():
    observed = np.ones((2, 1, 4, 5), bool)
    observed[0, 0, 1] = False
    return {
        "train": Arrays(images(6), np.arange(6) % 3),
        "test": Arrays(images(2, 1), np.array([0, 2]), observed),
    }


@pytest.fixture
def about():
    return Description("toy", 3, "made up", note="for tests", class_names=("a", "b", "c"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "prepared" / "toy"


def test_round_trip(folder, splits, about):
    written = write(folder, about, splits)
    data = PreparedData(folder)
    assert data.splits == ("train", "test") and data.provenance == written.provenance
    about = data.provenance
    assert (about.name, about.shape, about.classes, about.complete, about.lossless) == ("toy", (3, 4, 5), 3, True, True)
    assert about.counts == {"train": 6, "test": 2} and about.class_names == ("a", "b", "c")
    for name, arrays in splits.items():
        found = data.split(name)
        assert isinstance(found.images, np.memmap)
        for kind in ("images", "labels", "observed"):
            if getattr(arrays, kind) is None:
                assert getattr(found, kind) is None
            else:
                np.testing.assert_array_equal(getattr(found, kind), getattr(arrays, kind))
    with pytest.raises(LacunaError, match="no split 'validation'"):
        data.split("validation")
    assert {p.name for p in folder.parent.iterdir()} == {"toy"}


def test_attributes_are_labels_of_many_values(folder):
    rows = np.eye(6, 5, dtype=np.uint8)
    made = {"train": Arrays(images(6), rows), "test": Arrays(images(2), 1 - rows[:2])}
    data = write(folder, Description("toy", None, "made up", attributes=5), made)
    assert (data.provenance.attributes, data.provenance.classes) == (5, None)
    for name, arrays in made.items():
        np.testing.assert_array_equal(data.split(name).labels, arrays.labels)


@pytest.mark.parametrize(
    ("labels", "more", "words"),
    [
        (None, {}, "has no labels, though the set has 5 attributes"),
        (np.ones((3, 4), np.uint8), {}, r"labels of shape \(3, 4\)"),
        (np.ones((3, 5), np.int64), {}, "labels of shape"),
        (np.full((3, 5), 2, np.uint8), {}, "run from 2 to 2, but the set has 5 attributes"),
        (np.ones((3, 5), np.uint8), {"classes": 2}, "has 2 classes and 5 attributes"),
        (np.ones((3, 5), np.uint8), {"attributes": None}, "labels of shape"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(folder, labels, more, words):
    about = dataclasses.replace(Description("toy", None, "made up", attributes=5), **more)
    with pytest.raises(LacunaError, match=words):
        write(folder, about, {"train": Arrays(images(3), labels)})


def test_fingerprint_depends_on_content_only(tmp_path, splits, about):
    first = write(tmp_path / "a" / "toy", about, splits).provenance.fingerprint
    other = Description("other", 3, "elsewhere", complete=False)
    assert write(tmp_path / "b" / "toy", other, splits).provenance.fingerprint == first
    splits["train"].images[0, 0, 0, 0] ^= 1
    assert write(tmp_path / "a" / "toy", about, splits).provenance.fingerprint != first
    assert len(first) == 12 and int(first, 16) >= 0


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip, "train_images.npy is damaged .its checksum"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "train_images.npy is damaged .its size"),
        (lambda path: path.unlink(), "train_images.npy is missing"),
        (lambda path: (path.parent / "provenance.json").write_text("{"), "provenance.json is missing or unreadable"),
        (lambda path: (path.parent / "provenance.json").unlink(), "provenance.json is missing or unreadable"),
    ],
)
def test_damage_is_found_and_the_command_named(folder, splits, about, damage, words):
    write(folder, about, splits)
    PreparedData(folder)
    damage(folder / "train_images.npy")
    with pytest.raises(LacunaError, match=words) as caught:
        PreparedData(folder)
    assert f"python scripts/prepare.py toy --root {folder.parent.parent} --force" in str(caught.value)


def test_a_damaged_set_of_a_user_is_to_be_deleted(tmp_path, splits, about):
    folder = tmp_path / "prepared" / "arrays-x-0"
    write(folder, about, splits)
    flip(folder / "train_images.npy")
    with pytest.raises(LacunaError, match=f"delete {folder} and run the command again"):
        PreparedData(folder)


def test_intact_files_are_hashed_once(folder, splits, about, monkeypatch):
    write(folder, about, splits)
    calls = []
    original = prepared._sha256

    def counting(path):
        calls.append(path)
        return original(path)

    monkeypatch.setattr(prepared, "_sha256", counting)
    PreparedData(folder)
    assert not calls
    (folder / ".verified.json").unlink()
    PreparedData(folder)
    assert len(calls) == 5


def test_temporary_folders_of_killed_writes_are_removed(folder, splits, about):
    folder.parent.mkdir(parents=True)
    for name in (".toy.abc", ".toy.abc.old", ".toys.abc", ".toy2.abc"):
        (folder.parent / name).mkdir()
        (folder.parent / name / "train_images.npy").write_bytes(b"half")
    (folder.parent / ".toy.lock").touch()
    write(folder, about, splits)
    assert {p.name for p in folder.parent.iterdir()} == {"toy", ".toys.abc", ".toy2.abc", ".toy.lock"}


def test_a_failed_write_leaves_the_old_set(folder, splits, about, monkeypatch):
    write(folder, about, splits)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepared, "_save", full)
    with pytest.raises(LacunaError, match="No space left"):
        write(folder, about, {"train": Arrays(images(3), np.zeros(3, np.int64))})
    monkeypatch.undo()
    assert PreparedData(folder).provenance.counts == {"train": 6, "test": 2}
    assert [p.name for p in folder.parent.iterdir()] == ["toy"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": Arrays(images(3).astype(float), np.zeros(3, np.int64))}, "must be uint8"),
        ({"train": Arrays(images(0), np.zeros(0, np.int64))}, "holds no image"),
        ({"train": Arrays(images(3)[:, 0], np.zeros(3, np.int64))}, "of one shape"),
        ({"train": Arrays(images(3))}, "has no labels"),
        ({"train": Arrays(images(3), np.zeros(2, np.int64))}, "labels of shape"),
        ({"train": Arrays(images(3), np.array([0, 1, 3]))}, "run from 0 to 3"),
        ({"extra": Arrays(images(3), np.zeros(3, np.int64))}, "may have validation and test"),
        ({"test": Arrays(images(2), np.zeros(2, np.int64), np.ones((2, 4, 5), bool))}, "observed mask"),
        ({"test": Arrays(images(2), np.zeros(2, np.int64), np.zeros((2, 1, 4, 5), bool))}, "image 0 of the split"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(folder, splits, about, change, words):
    with pytest.raises(LacunaError, match=words):
        write(folder, about, splits | change)
    assert not folder.exists()


def test_reading_needs_no_torch(folder, splits, about):
    write(folder, about, splits)
    code = (
        "import sys; from pathlib import Path; from lacuna.data.prepared import PreparedData;"
        f"print(PreparedData(Path({str(folder)!r})).provenance.fingerprint);"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == PreparedData(folder).provenance.fingerprint


def test_record_is_plain_json(folder, splits, about):
    write(folder, about, splits)
    record = json.loads((folder / "provenance.json").read_text())
    assert record["source"] == "made up" and set(record["checksums"]) == set(record["sizes"])


def test_permutation_is_a_pure_function_of_its_names():
    order = permutation(1000, "a", 1)
    assert order.dtype == np.int64 and np.array_equal(np.sort(order), np.arange(1000))
    assert np.array_equal(order, permutation(1000, "a", 1))
    others = [permutation(1000, *names) for names in (("a", 2), ("b", 1), ("a1",), ("a", "1"))]
    assert not any(np.array_equal(order, other) for other in others)
    # no trend left: correlation of a random permutation with the identity has sd 1/sqrt(n - 1)
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 4.5 / np.sqrt(999)


def test_hashes_equal_those_of_plain_integers():
    mask = (1 << 64) - 1

    def plain(position):
        x = (position * 0x9E3779B97F4A7C15 + key("k", 3)) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    assert hashes(np.array([0, 1, 10**12]), "k", 3).tolist() == [plain(i) for i in (0, 1, 10**12)]
