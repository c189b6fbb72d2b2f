"""``logger=wandb`` offline, through the real command: what a dashboard will show is what is on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lacuna.runs.folder import RunFolder
from tests.runs.real import TINY, recipe, train
from tests.training.test_loggers import read_offline_run

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, whatever the machine has."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


def entries(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def records(folder: Path, kind: str) -> list[Any]:
    found = read_offline_run(folder)
    return [getattr(record, kind) for record in found if record.WhichOneof("record_type") == kind]


def test_a_run_and_its_prerequisite(tmp_path: Path, digits_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, f"data.root={digits_root}", f"output={tmp_path}", "logger=wandb", "logger.tags=[mine]", "seed=4"]
    assert train(*words) == 0
    assert "logging offline" in capsys.readouterr().err
    classifier = recipe(*words)
    for made in (classifier, classifier.prerequisites["density"]):
        folder = RunFolder.of(tmp_path, made)
        (run,) = records(folder.path, "run")
        assert run.run_id == made.identity
        assert run.display_name == made.name
        assert run.run_group == f"{made.group}-{made.family}"
        assert set(run.tags) == {made.task, "digits", "mine"}
        config = entries(run.config.update)
        assert {key: config[key] for key in made.config} == made.config
        (ended,) = records(folder.path, "exit")
        assert ended.exit_code == 0
        history = [entries(record.item) for record in records(folder.path, "history")]
        losses = [row["train/loss"] for row in history if "train/loss" in row]
        on_disk = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
        assert losses == pytest.approx([row["train/loss"] for row in on_disk])
        summary = {k: v for record in records(folder.path, "summary") for k, v in entries(record.update).items()}
        for name, value in folder.metrics["metrics"].items():
            assert summary[name] == pytest.approx(value)
        pictures = {path.name for path in folder.pictures.glob("*.png")}
        logged = {name.removesuffix("/_type") for row in history for name in row if name.endswith("/_type")}
        assert {f"{name}.png" for name in logged} == pictures
        assert len(list((folder.path / "wandb").rglob("media/images/*.png"))) == len(pictures)


def test_a_failed_run_is_closed_as_failed(tmp_path: Path, digits_root: Path) -> None:
    words = [*TINY, f"data.root={digits_root}", f"output={tmp_path}", "logger=wandb", "stem=zero"]
    # the weights overflow in the second epoch: the first one is logged
    words += ["net.training.lr_milestones=[[1,1e30]]", "net.training.epochs=3"]
    assert train(*words) == 2
    folder = RunFolder.of(tmp_path, recipe(*words))
    (ended,) = records(folder.path, "exit")
    assert ended.exit_code == 1
    assert len(records(folder.path, "history")) == 1
    assert not folder.finished
    # the next run of the same process is a run of its own
    other = [word for word in words if "milestones" not in word]
    assert train(*other) == 0
    folder = RunFolder.of(tmp_path, recipe(*other))
    (run,), (ended,) = records(folder.path, "run"), records(folder.path, "exit")
    assert (run.run_id, ended.exit_code) == (recipe(*other).identity, 0)
