"""Flows as runs: trained as from the command line, evaluated, stored, resumed, loaded."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lacuna.flows.acflow import ACFlow
from lacuna.imputers.acflow import FlowImputer
from lacuna.registry import build
from lacuna.runs.folder import RunFolder
from lacuna.runs.settings import Settings
from lacuna.tasks.acflow import TrainACFlow
from lacuna.tasks.common import stepping
from lacuna.training.loading import load, make_task, open_data
from lacuna.training.loggers import read_history
from tests.runs.real import contents, recipe, train

FLOW = (
    "experiment=digits_flow",
    "flow.width=8",
    "flow.training.epochs=2",
    "flow.training.batch_size=100",
    "flow.training.lr_milestones=[[1,5e-4]]",
    "flow.training.lr=1e-3",
    "data.train_images=300",
    "data.validation=100",
    "data.validation_images=20",
    "data.test_images=40",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "trainer.checkpoint_seconds=0",
)


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


def words(root: Path, output: Path, *more: str) -> tuple[str, ...]:
    return (*FLOW, *more, f"data.root={root}", f"output={output}")


def folder(root: Path, output: Path, *more: str) -> RunFolder:
    return RunFolder.of(output, recipe(*words(root, output, *more)))


def task_of(root: Path, output: Path, *more: str) -> TrainACFlow:
    wanted = recipe(*words(root, output, *more))
    settings = Settings(output, root, download=False, trainer={"accelerator": "cpu", "progress": False})
    torch.manual_seed(0)
    task = make_task(wanted, settings, open_data(wanted, settings))
    assert isinstance(task, TrainACFlow)
    return task


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, digits_root: Path) -> RunFolder:
    output = tmp_path_factory.mktemp("whole")
    assert train(*words(digits_root, output)) == 0
    return folder(digits_root, output)


def test_it_learns_is_evaluated_and_loads(whole):
    losses = [row["train/loss"] for row in read_history(whole.path / "metrics.jsonl")]
    assert len(losses) == 2 and losses[1] < losses[0]
    metrics = whole.metrics["metrics"]
    assert {"test/nll_per_dim", "test/bits_per_dim", "test/rmse", "test/psnr", "test/ssim"} <= metrics.keys()
    spread = metrics["test/nll_per_dim"] + math.log(17)
    assert metrics["test/bits_per_dim"] == pytest.approx(spread / math.log(2))
    assert isinstance(load(whole), ACFlow) and list(whole.pictures.glob("*.png"))


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_resumed_run_is_bit_identical(step, whole, digits_root, tmp_path, monkeypatch):
    """Three batches an epoch: in the first, between the epochs, and in the second."""
    original, calls = TrainACFlow.loss, [0]

    def killed(self: TrainACFlow, batch: Any) -> tuple[torch.Tensor, int]:
        if calls[0] == step:
            raise Killed
        calls[0] += 1
        return original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainACFlow, "loss", killed)
        patch.setattr(stepping, "CHUNK_SECONDS", 0)
        with pytest.raises(Killed):
            train(*words(digits_root, tmp_path))
    run = folder(digits_root, tmp_path)
    assert run.resumable and not run.finished
    assert train(*words(digits_root, tmp_path)) == 0
    assert contents(run.path) == contents(whole.path)


def test_the_rate_falls_with_the_steps_and_the_gradient_is_clipped(digits_root, tmp_path, monkeypatch):
    original, rates, before, after = TrainACFlow.before_update, [], [], []

    def norm(self: TrainACFlow) -> float:
        return float(torch.cat([w.grad.flatten() for w in self.model.parameters() if w.grad is not None]).norm())

    def clipped(self: TrainACFlow) -> None:
        rates.append(self._optimizers()[0].param_groups[0]["lr"])
        before.append(norm(self))
        original(self)
        after.append(norm(self))

    monkeypatch.setattr(TrainACFlow, "before_update", clipped)
    assert train(*words(digits_root, tmp_path, "flow.training.decay_steps=2", "flow.training.clip=5")) == 0
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3 / 1.5, 5e-4 / 1.5, 5e-4 / 2, 5e-4 / 2])
    assert min(before) > 5 and after == pytest.approx([5] * 6, rel=1e-4)
    rates.clear(), before.clear(), after.clear()
    assert train(*words(digits_root, tmp_path, "flow.training.decay_steps=null", "flow.training.clip=null")) == 0
    assert rates == pytest.approx([1e-3] * 3 + [5e-4] * 3) and after == before


@pytest.mark.parametrize("mask", ["square", "noise", "trapezoid"])
def test_the_loss_is_that_of_held_out_pixels(mask, digits_root, tmp_path, monkeypatch):
    task = task_of(digits_root, tmp_path, f"mask={mask}")
    monkeypatch.setattr(TrainACFlow, "current_epoch", 3)
    batch = task.data.train.batch(torch.arange(20))
    scheme = build("mask", task.config["flow"]["hold_out"])
    shown = scheme(batch.index, (1, 8, 8), seed=task.config["seed"], split="hide/3")
    keep, scored = batch.mask & shown, batch.mask & ~shown
    assert scored.any() and not (scored & keep).any() and (~(keep | scored) == ~batch.mask).all()
    torch.manual_seed(1)
    expected = -task.model.log_prob(batch.observed, keep, scored).mean()
    expected = expected + task.config["flow"]["decay"] * task.model.penalised().square().sum()
    torch.manual_seed(1)
    loss, count = task.loss(batch)
    torch.testing.assert_close(loss, expected)
    assert count == 20
    noise = torch.where(batch.mask, batch.observed, torch.rand(batch.observed.shape))
    torch.manual_seed(1)
    assert torch.equal(task.loss(dataclasses.replace(batch, observed=noise))[0], loss)


def test_an_untrained_flow_has_the_likelihood_of_uniform_values(digits_root, tmp_path, monkeypatch):
    """All levels equally likely: a density of 1 on [0, 1], log2(17) bits a value."""

    def log_prob(self: ACFlow, x: torch.Tensor, observed: torch.Tensor, hidden: torch.Tensor, *_: Any) -> torch.Tensor:
        return -math.log(17) * hidden.expand_as(x).flatten(1).sum(1)

    monkeypatch.setattr(ACFlow, "log_prob", log_prob)
    task = task_of(digits_root, tmp_path)
    found = task.evaluate(task.data.test)
    assert found["nll_per_dim"] == pytest.approx(0, abs=1e-5)
    assert found["bits_per_dim"] == pytest.approx(math.log2(17), rel=1e-5)


def test_it_is_evaluated_on_the_same_pixels_as_a_density(digits_root, tmp_path, monkeypatch):
    """By hand: the missing pixels of the mask scheme, imputed by the mean of the samples, against the stored truth."""
    task = task_of(digits_root, tmp_path)
    monkeypatch.setattr(ACFlow, "mean", lambda self, x, observed, n: torch.where(observed, x, 0.5))
    batch, errors = task.data.test.batch(torch.arange(40)), []
    for truth, mask in zip(batch.truth, batch.mask, strict=True):
        errors += [(float(value) - 0.5) ** 2 for value in truth[~mask]]
    assert task.evaluate(task.data.test)["mse"] == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_evaluation_does_not_change_the_training_s_noise(digits_root, tmp_path):
    task = task_of(digits_root, tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = task.validate()
    assert torch.equal(torch.rand(3), expected)
    assert task.validate() == found


def test_classifiers_on_one_flow_share_what_it_imputed(whole, digits_root, monkeypatch):
    """Another net asks the flow for test images only; it is trained as if it had asked for all."""
    asked, original = [], FlowImputer._impute

    def fill(self: FlowImputer, observed: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        asked.append(len(observed))
        return original(self, observed, mask)

    monkeypatch.setattr(FlowImputer, "_impute", fill)
    output, found, counts = whole.path.parents[1], [], []
    for stages in ("[[8,1]]", "[[4,1]]", "[[4,1]]"):
        chosen = words(digits_root, output, "stem=acflow", "task=classify", "net.training.epochs=1")
        chosen = (*chosen, f"net.stages={stages}")
        asked.clear()
        assert train(*chosen) == 0
        run = RunFolder.of(output, recipe(*chosen))
        found.append(contents(run.path))
        counts.append(sum(asked))
        if len(counts) == 2:  # the same once more, with nothing to share
            shutil.rmtree(output / "cache")
            shutil.rmtree(run.path)
    # beside 40 test images and those of the picture (10): 300 for training, 20 for validation
    assert counts == [370, 50, 370]
    assert found[1] == found[2] != found[0]


@pytest.mark.parametrize("word", ["decay_steps=0", "clip=-1"])
def test_settings_out_of_range_are_refused(word, digits_root, tmp_path, capsys):
    assert train(*words(digits_root, tmp_path, f"flow.training.{word}")) == 2
    assert f"flow.training.{word}" in capsys.readouterr().err
