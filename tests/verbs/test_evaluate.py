"""A finished run on another mask and split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lacuna
from lacuna.runs.folder import RunFolder
from lacuna.verbs.command import verb
from tests.runs import real


@pytest.fixture(scope="module")
def output(tmp_path_factory, digits_root) -> Path:
    """An output folder with a finished density and the classifier on it."""
    folder = tmp_path_factory.mktemp("evaluate")
    words = (f"output={folder}", f"data.root={digits_root}", *real.TINY)
    assert real.train("experiment=digits_misconv", *words) == 0
    return folder


def evaluate(output: Path, root: Path, *words: str) -> int:
    return verb("evaluate", "lacuna.verbs.evaluate:main")([f"output={output}", f"data.root={root}", *words])


def records(output: Path, name: str) -> dict[str, dict]:
    run = RunFolder.find(output, name)
    return {path.stem: json.loads(path.read_text()) for path in (run.path / "evaluations").glob("*.json")}


@pytest.mark.parametrize("name", ["digits-square-misconv", "digits-square-dmfa"])
def test_the_same_mask_and_split_give_the_metrics_of_the_run(output, digits_root, name):
    assert evaluate(output, digits_root, f"run={name}", "trainer.accelerator=cpu") == 0
    found = [r["metrics"] for key, r in records(output, name).items() if key.startswith("square-test")]
    run = RunFolder.find(output, name)
    assert found == [{k[5:]: v for k, v in run.metrics["metrics"].items() if k.startswith("test/")}]


def test_no_mask_gives_the_accuracy_on_complete_images(output, digits_root):
    assert evaluate(output, digits_root, "run=digits-square-misconv", "mask=none") == 0
    (found,) = [r["metrics"] for key, r in records(output, "digits-square-misconv").items() if key.startswith("none")]
    expected = RunFolder.find(output, "digits-square-misconv").metrics["metrics"]
    assert found["accuracy"] == expected["complete/accuracy"]


def test_masks_and_splits_are_kept_apart(output, digits_root):
    for words in (["mask=bernoulli", "mask.rate=0.7"], ["mask=bernoulli", "mask.rate=0.9"], ["split=validation"]):
        assert evaluate(output, digits_root, "run=digits-square-misconv", *words) == 0
    found = records(output, "digits-square-misconv")
    assert sum(key.startswith("bernoulli-test") for key in found) == 2
    assert sum(key.startswith("square-validation") for key in found) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "run is empty"),
        (["run=nothing"], "run=nothing is no run"),
        (["run=digits"], "matches 2 runs"),
        (["run=digits-square-misconv", "split=train"], "split=train"),
        (["run=digits-square-misconv", "mask=bernoulli", "mask.rate=1.2"], "mask.rate=1.2"),
        (["run=digits-square-misconv", "trainer.threads=-1"], "trainer.threads=-1"),
    ],
)
def test_mistakes_are_one_sentence(output, digits_root, capsys, words, said):
    assert evaluate(output, digits_root, *words) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith("error: ") and said in error[0]


def test_other_data_than_the_runs_are_refused(output, tmp_path, capsys):
    from lacuna.data.prepared import Arrays, Description, write
    from lacuna.data.sources.digits import Digits

    rng = np.random.default_rng(0)
    splits = {s: Arrays(rng.integers(0, 256, (40, 1, 8, 8), np.uint8), np.arange(40) % 10) for s in ("train", "test")}
    write(Digits().folder(tmp_path), Description("digits", 10, "made up"), splits)
    assert evaluate(output, tmp_path, "run=digits-square-dmfa") == 2
    assert "are not those of this run" in capsys.readouterr().err


def test_a_record_says_what_it_was_made_of(output, digits_root):
    assert evaluate(output, digits_root, "run=digits-square-misconv", "mask=trapezoid") == 0
    found = records(output, "digits-square-misconv")
    (record,) = [record for name, record in found.items() if name.startswith("trapezoid")]
    assert record["budget"] == RunFolder.find(output, "digits-square-misconv").recipe.config["budget"]
    assert record["images"] == 48
    assert record["complete"] is record["lossless"] is True
    assert record["mask"]["area"] == 0.5 and record["split"] == "test"


def own_data(path: Path, classes: int | None = 3) -> list[str]:
    """A user's file of small colour images, and the words that choose it."""
    rng = np.random.default_rng(0)
    labels = {} if classes is None else {"labels": np.arange(60) % classes}
    np.savez(path, images=rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8), **labels)
    return [*real.TINY, "data=arrays", f"data.path={path}", "data.validation=10"]


def words_for(*words: str) -> list[str]:
    return ["stem=mask", "mask=bernoulli", *words]


@pytest.mark.parametrize("trained", [True, False])
def test_masks_of_the_other_kind_than_trained_on(trained, tmp_path, capsys):
    """A network that knows masks per channel judges shared ones; the other way round is one sentence."""
    words = words_for(f"mask.per_channel={str(trained).lower()}")
    assert real.train(*own_data(tmp_path / "own.npz"), *words, f"output={tmp_path}", f"data.root={tmp_path}") == 0
    capsys.readouterr()
    other = ["mask=bernoulli", f"mask.per_channel={str(not trained).lower()}"]
    assert evaluate(tmp_path, tmp_path, "run=arrays", *other) == (0 if trained else 2)
    if not trained:
        err = capsys.readouterr().err
        assert "mask.per_channel=false" in err and err.count("\n") == 1
    assert evaluate(tmp_path, tmp_path, "run=arrays", "mask=square") == 0


def test_own_data_that_have_moved(tmp_path, capsys):
    words = own_data(tmp_path / "own.npz")
    assert real.train(*words, "stem=zero", f"output={tmp_path}", f"data.root={tmp_path / 'a'}") == 0
    for split in ("test", "validation"):
        assert evaluate(tmp_path, tmp_path / "a", "run=arrays", f"split={split}") == 0
    before = records(tmp_path, "arrays")
    moved = tmp_path / "moved" / "renamed.npz"
    moved.parent.mkdir()
    (tmp_path / "own.npz").rename(moved)
    assert evaluate(tmp_path, tmp_path / "b", "run=arrays") == 2
    assert "data.path" in capsys.readouterr().err
    for split in ("test", "validation"):
        assert evaluate(tmp_path, tmp_path / "b", "run=arrays", f"data.path={moved}", f"split={split}") == 0
    assert records(tmp_path, "arrays") == before
    other = tmp_path / "other.npz"
    own_data(other, classes=4)
    assert evaluate(tmp_path, tmp_path / "b", "run=arrays", f"data.path={other}") == 2
    err = capsys.readouterr().err
    assert f"The data in {other} (fingerprint" in err and "are not those of this run" in err
    assert "set data.path to where those are" in err and "data.root" not in err


def test_data_path_is_for_own_data_only(output, digits_root, tmp_path, capsys):
    assert evaluate(output, digits_root, "run=digits-square-dmfa", f"data.path={tmp_path}") == 2
    assert "this run's data are digits" in capsys.readouterr().err


def test_load_finds_runs_by_path_name_and_beginning(output):
    run = RunFolder.find(output, "digits-square-misconv")
    for name in (run.path, run.path.name, run.recipe.identity[:6]):
        assert type(lacuna.load(name, output)).__name__ == "IncompleteClassifier"
    assert type(lacuna.load("digits-square-dmfa", output)).__name__ == "DMFA"
