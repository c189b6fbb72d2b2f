"""Which files of a user's folder are read: hidden ones, lacuna's results and other kinds are not; links once."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from lacuna.data.sources.folder import Folder
from lacuna.data.sources.listing import MARK
from lacuna.errors import LacunaError


def put(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(1, 256, (6, 6), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def home(tmp_path):
    for number in range(4):
        put(tmp_path / "home" / f"{number}.png", number)
    return tmp_path / "home"


def names(home):
    return [name.as_posix() for name in Folder(str(home)).names]


def test_hidden_names_are_no_data_and_are_counted(home, tmp_path, capsys):
    for name in ("cat/a.png", "dog/a.png", "cat/.ipynb_checkpoints/a-checkpoint.png", "__MACOSX/cat/._a.png"):
        put(tmp_path / "pets" / name)
    (tmp_path / "pets" / "cat" / "._a.png").write_bytes(b"resource fork, no picture")
    (tmp_path / "pets" / ".DS_Store").write_bytes(b"0")
    for name in ("Thumbs.db", "notes.txt", "dog/more.TXT"):
        (tmp_path / "pets" / name).write_bytes(b"0")
    data = Folder(str(tmp_path / "pets")).prepare(tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert data.provenance.class_names == ("cat", "dog") and sum(data.provenance.counts.values()) == 2
    assert "3 image(s) with hidden names are left out (__MACOSX, cat/._a.png, cat/.ipynb_checkpoints)" in said[0]
    assert "3 file(s) of other kinds are left out: 1 .db, 2 .txt" in said[1]
    assert "hidden names" in data.provenance.note


def test_a_plain_folder_is_read_without_a_word(home, tmp_path, capsys):
    data = Folder(str(home)).prepare(tmp_path)
    assert not capsys.readouterr().err and data.provenance.note == ""


@pytest.mark.parametrize(
    "files",
    [
        ["out/runs/folder-x/recipe.json", "out/runs/folder-x/pictures/imputations.png"],
        ["deep/run/recipe.json", "deep/run/status.json", "deep/run/pictures/a.png"],
        ["data/prepared/folder-x/provenance.json", "data/prepared/folder-x/train_images.npy"],
        ["filled/" + MARK, "filled/0.png", "filled/0_uncertainty.png"],
    ],
)
def test_results_of_lacuna_are_no_data(home, files):
    before, name = names(home), Folder(str(home)).set_name
    for file in files:
        put(home / file) if file.endswith(".png") else (home / file).parent.mkdir(parents=True, exist_ok=True)
        if not file.endswith(".png"):
            (home / file).write_text("{}")
    source = Folder(str(home))
    assert names(home) == before and source.set_name == name and not source.remarks
    # a user may still ask for them by name
    if pictures := [home / file for file in files if file.endswith(".png")]:
        assert Folder(str(pictures[0].parent)).names[0].name == pictures[0].name


def test_a_user_s_own_folder_called_runs_is_data(home):
    put(home / "runs" / "monday" / "a.png")
    put(home / "results" / "b.png")
    assert {"runs/monday/a.png", "results/b.png"} <= set(names(home))


def test_links_are_followed_once_and_said(home, tmp_path, capsys):
    outside = put(tmp_path / "elsewhere" / "x.png", 9)
    put(tmp_path / "more" / "y.png", 8)
    (home / "x.png").symlink_to(outside)
    (home / "more").symlink_to(tmp_path / "more")
    assert names(home) == ["0.png", "1.png", "2.png", "3.png", "more/y.png", "x.png"]
    Folder(str(home)).prepare(tmp_path)
    assert "2 link(s) are followed (more, x.png)" in capsys.readouterr().err


def test_links_that_lead_back_nowhere_or_twice_are_refused(home, tmp_path):
    for target, words in (
        (home, "is a link to .*: remove it"),
        (tmp_path, "is a link to .*: remove it"),
        (home / "0.png", r"0\.png and .*link.* are the same file"),
        (home / "gone.png", "is a link that leads nowhere"),
    ):
        link = home / ("link.png" if target.suffix else "link")
        link.symlink_to(target)
        with pytest.raises(LacunaError, match=words):
            Folder(str(home))
        link.unlink()
    for name in ("one", "two"):
        (tmp_path / "more").mkdir(exist_ok=True)
        (home / name).symlink_to(tmp_path / "more")
    with pytest.raises(LacunaError, match=r"is a link to .*: remove it"):
        Folder(str(home))


def test_a_folder_of_links_alone_is_a_data_set(home, tmp_path):
    for kind, numbers in (("a", (0, 1)), ("b", (2, 3))):
        for number in numbers:
            link = tmp_path / "sorted" / kind / f"{number}.png"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(home / f"{number}.png")
    data = Folder(str(tmp_path / "sorted"), test_fraction=0.25).prepare(tmp_path)
    assert data.provenance.counts == {"train": 3, "test": 1} and data.provenance.class_names == ("a", "b")


def test_what_is_no_file_or_is_gone_is_said(home, capsys, tmp_path):
    os.mkfifo(home / "pipe.png")
    source = Folder(str(home))
    assert len(source.names) == 4
    source.prepare(tmp_path)
    assert "1 file(s) of other kinds are left out: 1 .png (pipe.png)" in capsys.readouterr().err
    source = Folder(str(home))
    (home / "2.png").unlink()
    with pytest.raises(LacunaError, match=r"2\.png cannot be read \(No such file"):
        source.prepare(tmp_path)
