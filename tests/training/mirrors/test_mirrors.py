"""Several mirrors at once: what they show is what is on disk; one that fails leaves the run alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.history import read_history
from lacuna.runs.mirror_options import MirrorOptions
from lacuna.runs.settings import Settings
from lacuna.training.mirrors import lightning_loggers, run_mirrors
from lacuna.training.mirrors.base import DONE
from lacuna.training.mirrors.directions import direction
from lacuna.training.mirrors.lightning_loggers import CSVMirror
from tests.runs.real import TINY, contents, recipe, train

Scalars = dict[tuple[str, int], float]


def on_disk(folder: RunFolder) -> Scalars:
    """(metric, step) -> value of the history."""
    rows = read_history(folder.path / "metrics.jsonl")
    return {(name, row["step"]): row[name] for row in rows for name in row if name not in ("step", "epoch")}


def of_csv(folder: RunFolder) -> Scalars:
    with (folder.path / "csv" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {(k, int(row["step"])): float(v) for row in rows for k, v in row.items() if v and k not in ("step", "epoch")}


def of_tensorboard(folder: RunFolder) -> Scalars:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder.path / "tensorboard")).Reload()
    assert found.Tags()["images"]
    return {(tag, e.step): e.value for tag in found.Tags()["scalars"] for e in found.Scalars(tag) if tag != "epoch"}


def of_mlflow(folder: RunFolder) -> Scalars:
    entry = json.loads((folder.path / "mirrors.json").read_text())["mlflow"]
    where = next((folder.path.parents[1] / "mlruns").glob(f"*/{entry['run']}"))
    assert list((where / "artifacts" / "pictures").rglob("*.png"))
    found: Scalars = {}
    for path in (where / "metrics").rglob("*"):
        for line in path.read_text().splitlines() if path.is_file() else ():
            _, value, step = line.split()[:3]
            found[path.relative_to(where / "metrics").as_posix(), int(step)] = float(value)
    return {key: value for key, value in found.items() if key[0] != "epoch"}


@pytest.mark.slow
def test_all_of_them_show_what_is_on_disk(tmp_path: Path, digits_root: Path) -> None:
    words = [*TINY, f"data.root={digits_root}", "task=density", "density.training.epochs=3"]
    mirrored = [*words, f"output={tmp_path / 'mirrored'}", "logger=many", "logger.mirrors=[tensorboard,csv,mlflow]"]
    assert train(*mirrored) == 0
    folder = RunFolder.of(tmp_path / "mirrored", recipe(*mirrored))
    expected = on_disk(folder)
    final = {name for name in folder.metrics["metrics"] if name.startswith("test/")}
    assert len(expected) >= 9 and final
    readers: list[Callable[[RunFolder], Scalars]] = [of_csv, of_tensorboard, of_mlflow]
    for reader in readers:
        found = reader(folder)
        assert {key: found[key] for key in expected} == pytest.approx(expected)
        assert final <= {name for name, _ in found}
        assert {"train/learning_rate", "speed/epoch_seconds", "speed/images_per_second"} <= {name for name, _ in found}
    # nothing of it is in the run: history, weights and pictures are those of a run without mirrors
    assert train(*words, f"output={tmp_path / 'alone'}") == 0
    alone = RunFolder.of(tmp_path / "alone", recipe(*words))
    assert contents(alone.path).items() <= contents(folder.path).items()


@pytest.mark.slow
def test_a_finished_run_is_mirrored_afterwards_once(
    tmp_path: Path, digits_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, "stem=zero", f"data.root={digits_root}", f"output={tmp_path}"]
    assert train(*words) == 0
    folder = RunFolder.of(tmp_path, recipe(*words))
    before = contents(folder.path)
    capsys.readouterr()
    assert train(*words, "logger=csv") == 0
    assert "mirrored to csv" in capsys.readouterr().out
    found, expected = of_csv(folder), on_disk(folder)
    assert {key: found[key] for key in expected} == expected
    assert before.items() <= contents(folder.path).items()
    assert train(*words, "logger=csv") == 0
    assert "mirrored" not in capsys.readouterr().out


def settings(tmp_path: Path, **logger: Any) -> Settings:
    return Settings(output=tmp_path, logger={"name": "csv", **logger})


class Broken(CSVMirror):
    """A mirror whose disk is full from some line on."""

    name = "broken"
    lines = 0

    def log(self, row: Any, step: int) -> None:
        self.lines += 1
        if self.lines > 1:
            raise OSError(28, "No space left on device")


def test_one_that_fails_is_left_out_with_a_sentence(
    tmp_path: Path, digits_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe(*TINY, "stem=zero", f"data.root={digits_root}")
    both = {"broken": Broken, "csv": CSVMirror}
    monkeypatch.setattr(run_mirrors, "kinds", lambda: both)
    chosen = settings(tmp_path)
    facts = run_mirrors.RunFacts.of(made, chosen)
    mirrors = run_mirrors.RunMirrors(facts, chosen.mirrors, list(both))
    for number in range(3):
        mirrors.line({"step": number, "epoch": number, "train/loss": 1.0 / (number + 1)}, number)
    mirrors.close(DONE)
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "logger=broken failed" in said and "No space left" in said
    assert len(of_csv(RunFolder(facts.folder))) == 3
    assert not mirrors.memory.finished("broken")


def test_a_resumed_run_tells_no_line_twice(tmp_path: Path, digits_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those before the interrupt, nor those after the last checkpoint, which are computed again."""
    told: list[int] = []

    class Counting(lightning_loggers.TensorBoardMirror):
        def __init__(self, *words: Any) -> None: ...

        def log(self, row: Any, step: int) -> None:
            told.append(step)

        def close(self, exit_code: int) -> None: ...

    monkeypatch.setattr(run_mirrors, "kinds", lambda: {"tensorboard": Counting})
    made, chosen = recipe(*TINY, "stem=zero", f"data.root={digits_root}"), settings(tmp_path, mirrors=["tensorboard"])
    facts = run_mirrors.RunFacts.of(made, chosen)
    history = facts.folder / "metrics.jsonl"
    for first, last in ((0, 4), (2, 7)):  # interrupted after four lines, resumed from a checkpoint after two
        mirrors = run_mirrors.RunMirrors(facts, chosen.mirrors, ["tensorboard"])
        mirrors.catch_up()
        for number in range(first, last):
            mirrors.line({"step": number, "train/loss": 1.0}, number)
        mirrors.close(run_mirrors.INTERRUPTED)
        facts.folder.mkdir(exist_ok=True)
        history.write_text('{"step": 0, "train/loss": 1.0}\n{"step": 1, "train/loss": 1.0}\n')
    assert told == list(range(7))


@pytest.mark.parametrize(
    ("logger", "sentence"),
    [
        ({"mirrors": ["wandb", "nonsense"]}, "nonsense is none of wandb"),
        ({"mirrors": "wandb"}, "must be a list"),
        ({"mirrors": ["csv"], "artifacts": "model"}, "only wandb and mlflow store files"),
        ({"mirrors": ["wandb"], "artifacts": "everything"}, "logger.artifacts=everything must be"),
        ({"mirrors": ["wandb"], "pictures_every": -1}, "logger.pictures_every=-1 must be"),
        ({"mirrors": ["wandb"], "pictures_every": True}, "logger.pictures_every=True must be"),
    ],
)
def test_a_wrong_option_is_one_sentence(logger: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LacunaError, match=sentence):
        Settings(logger=logger)


def test_a_missing_package_is_named_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("wandb", "tensorboard", "mlflow"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(LacunaError, match=rf"logger={package} needs the package .*{package}"):
            MirrorOptions.of({"mirrors": ["csv", package]})
    assert MirrorOptions.of({"name": "disk"}).names == ()


def test_labels_and_directions() -> None:
    plain = Settings(logger={"mirrors": []})
    assert plain.labelled("table") is plain
    mirrored = Settings(logger={"mirrors": ["csv"], "tags": ["mine"]}).labelled("table", ["row", "mine"])
    assert (mirrored.mirrors.group, mirrored.mirrors.tags) == ("table", ("mine", "row"))
    assert mirrored.labelled("other").mirrors.group == "table"
    assert {direction(name) for name in ("validation/accuracy", "test/psnr", "scc")} == {"max"}
    assert {direction(name) for name in ("train/loss", "validation/rmse", "test/fid", "test/nll")} == {"min"}
    assert direction("epoch") is direction("train/critic") is None
