"""One run from recipe to metrics: what it leaves behind, what it reuses, and that it is repeatable bit for bit."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lacuna.errors import LacunaError
from lacuna.mfa import MFA
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.tasks.base import Task
from lacuna.tasks.classifier import TrainClassifier
from lacuna.tasks.common import stepping
from lacuna.training import fit as fit_module
from lacuna.training import run as run_module
from lacuna.training.loading import load, make_task, open_data
from lacuna.training.loggers import read_history
from lacuna.training.run import execute
from tests.runs.real import contents
from tests.training.trained import elsewhere

STEMS = ["zero", "mean", "knn", "mask", "partial", "mfa_mean", "misconv", "gt"]


def test_what_a_run_leaves_behind(misconv: RunFolder, make: Callable[..., Recipe], output: Path) -> None:
    names = {str(path.relative_to(misconv.path)) for path in misconv.path.rglob("*") if path.is_file()}
    assert names - {".lock"} == {
        "recipe.json", "status.json", "environment.json", "metrics.jsonl", "metrics.json", "model.json",
        "model.safetensors", "pictures/first_layer.png", "pictures/first_layer.npz",
        "pictures/imputations.png", "pictures/imputations.npz",
    }  # fmt: skip
    assert misconv.finished and misconv.path == output / "runs" / make("stem=misconv").name
    assert misconv.recipe.identity == make("stem=misconv").identity
    assert json.loads((misconv.path / "status.json").read_text())["state"] == "done"
    data = json.loads((misconv.path / "metrics.json").read_text())["data"]
    assert data["images"] == {"train": 96, "test": 48}
    assert data["fingerprint"] == misconv.recipe.config["data"]["fingerprint"]


def test_metrics(misconv: RunFolder) -> None:
    found = misconv.metrics["metrics"]
    assert set(found) == {f"{s}/{m}" for s in ("test", "complete", "validation") for m in ("accuracy", "loss")}
    assert all(0 <= found[f"{split}/accuracy"] <= 1 for split in ("test", "complete", "validation"))
    history = read_history(misconv.path / "metrics.jsonl")
    assert [row["epoch"] for row in history] == [0, 1]
    assert history[-1]["validation/accuracy"] == pytest.approx(found["validation/accuracy"])
    density = RunFolder.find(misconv.path.parents[1], "digits-square-dmfa").metrics["metrics"]
    expected = {"nll", "nll_per_dim", "mse", "rmse", "sse", "psnr", "ssim", "ssim_range2"}
    assert set(density) == {f"test/{name}" for name in expected}
    assert density["test/rmse"] ** 2 == pytest.approx(density["test/mse"])
    assert density["test/sse"] == pytest.approx(16 * density["test/mse"])  # 4x4 hidden pixels of an image


def test_a_finished_run_is_never_redone(
    misconv: RunFolder, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(run_module, "perform", never)
    before = {path: path.stat().st_mtime_ns for path in misconv.path.rglob("*")}
    assert execute(misconv.recipe, settings).path == misconv.path
    assert capsys.readouterr().out == f"finished before: {misconv.path}\n"
    assert {path: path.stat().st_mtime_ns for path in misconv.path.rglob("*")} == before


def test_a_prerequisite_is_trained_once(
    misconv: RunFolder, make: Callable[..., Recipe], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    density = RunFolder.find(settings.output, "digits-square-dmfa")
    before = contents(density.path)
    mean = execute(make("stem=mfa_mean"), settings)
    assert capsys.readouterr().out == f"finished before: {density.path}\ntraining: {mean.path}\n"
    assert contents(density.path) == before
    assert len(list((settings.output / "runs").glob("*-dmfa-*"))) == 1


def test_the_same_recipe_gives_the_same_numbers_and_weights(
    misconv: RunFolder, settings: Settings, tmp_path: Path
) -> None:
    torch.rand(7)  # the state of the random numbers before a run does not matter
    again = execute(misconv.recipe, elsewhere(settings, tmp_path), announce=False)
    assert contents(again.path) == contents(misconv.path)
    (first,), (second,) = (list(path.glob("runs/*-dmfa-*")) for path in (settings.output, tmp_path))
    assert contents(first) == contents(second)


def test_another_seed_is_another_run(misconv: RunFolder, make: Callable[..., Recipe], settings: Settings) -> None:
    other = execute(make("stem=zero", "seed=1"), settings, announce=False)
    same = execute(make("stem=zero"), settings, announce=False)
    assert other.path != same.path
    assert other.recipe.group == same.recipe.group
    assert other.metrics != same.metrics


@pytest.mark.parametrize("stem", STEMS)
def test_a_stored_run_predicts_as_the_trained_model(
    stem: str, misconv: RunFolder, make: Callable[..., Recipe], settings: Settings
) -> None:
    """Fitted imputers included: nothing but the run's files and those of its prerequisites is needed."""
    folder = execute(make(f"stem={stem}"), settings, announce=False)
    data = open_data(folder.recipe, settings)
    task = make_task(folder.recipe, settings, data)
    model = load(folder)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert isinstance(task, TrainClassifier)
    task.model = model  # type: ignore[assignment]
    assert task.evaluate(data.test) == {k: folder.metrics["metrics"][f"test/{k}"] for k in ("accuracy", "loss")}


def test_a_stored_density(misconv: RunFolder, settings: Settings) -> None:
    folder = RunFolder.find(settings.output, "digits-square-dmfa")
    model = load(folder)
    data = open_data(folder.recipe, settings)
    batch = data.test.batch([0, 1])
    density = model(batch.observed, batch.mask)
    assert isinstance(density, MFA)
    assert density.mean.shape == (2, 1, 1, 8, 8)
    task = make_task(folder.recipe, settings, data)
    task.model = model
    assert {f"test/{k}": v for k, v in task.evaluate(data.test).items()} == folder.metrics["metrics"]


class Killed(BaseException):
    """Stands for SIGKILL: nobody handles it."""


def dies(monkeypatch: pytest.MonkeyPatch, method: str, after: int) -> None:
    """Let the ``after``-th call of a method of Task be the last thing that happens."""
    original, calls = getattr(Task, method), []

    @functools.wraps(original)  # Lightning looks at the signature
    def mortal(self: Task, *args: Any) -> Any:
        calls.append(0)
        if len(calls) > after:
            raise Killed
        return original(self, *args)

    monkeypatch.setattr(Task, method, mortal)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("where", [("step", 4), ("on_train_epoch_end", 1)])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(
    stem: str,
    where: tuple[str, int],
    misconv: RunFolder,
    make: Callable[..., Recipe],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = execute(make(f"stem={stem}"), settings, announce=False)
    there = elsewhere(settings, tmp_path)
    for density in (settings.output / "runs").glob("*-dmfa-*"):
        shutil.copytree(density, tmp_path / "runs" / density.name)
    with monkeypatch.context() as context:
        context.setattr(stepping, "CHUNK_SECONDS", 0)
        dies(context, *where)
        with pytest.raises(Killed):
            execute(whole.recipe, there, announce=False)
    torch.rand(3)
    assert contents(execute(whole.recipe, there, announce=False).path) == contents(whole.path)


@pytest.mark.parametrize("method", ["save_weights", "draw", "finish"])
def test_a_run_killed_after_its_training_only_concludes(
    method: str, misconv: RunFolder, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = map(RunFolder, (settings.output / "runs").glob("*-dmfa-*"))

    def killed(*args: Any) -> None:
        raise Killed

    there = elsewhere(settings, tmp_path)
    with monkeypatch.context() as context:
        from lacuna.tasks.dmfa import TrainDMFA

        owner: Any = {"save_weights": fit_module, "draw": TrainDMFA, "finish": RunFolder}[method]
        context.setattr(owner, method, killed)
        with pytest.raises(Killed):
            execute(whole.recipe, there, announce=False)
    assert not RunFolder.of(tmp_path, whole.recipe).finished

    with monkeypatch.context() as context:
        context.setattr(TrainDMFA, "step", killed)
        assert contents(execute(whole.recipe, there, announce=False).path) == contents(whole.path)


def test_a_run_killed_right_after_its_metrics_is_tidied_up(
    misconv: RunFolder, settings: Settings, tmp_path: Path
) -> None:
    there = elsewhere(settings, tmp_path)
    folder = RunFolder(tmp_path / "runs" / misconv.path.name)
    shutil.copytree(misconv.path, folder.path)
    folder.checkpoints.mkdir(exist_ok=True)
    (folder.checkpoints / "last.ckpt").write_bytes(b"left behind")
    status = json.loads((folder.path / "status.json").read_text())
    (folder.path / "status.json").write_text(json.dumps({**status, "state": "running"}))
    execute(misconv.recipe, there, announce=False)
    assert not list(folder.checkpoints.iterdir())
    assert json.loads((folder.path / "status.json").read_text())["state"] == "done"


def test_a_failure_is_recorded_and_can_be_repeated(
    make: Callable[..., Recipe], settings: Settings, tmp_path: Path
) -> None:
    """A learning rate so large that the weights overflow."""
    wild = make("task=density", "density.training.lr=1e30")
    there = elsewhere(settings, tmp_path)
    for _ in range(2):
        with pytest.raises(LacunaError, match=r"lower density\.training\.lr \(now 1e\+30\)"):
            execute(wild, there, announce=False)
    folder = RunFolder.of(tmp_path, wild)
    status = json.loads((folder.path / "status.json").read_text())
    assert status["state"] == "failed" and "lower density.training.lr" in status["error"]
    assert "Traceback" in (folder.path / "log.txt").read_text()
    assert not folder.finished
