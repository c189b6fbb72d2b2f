"""The laws of chunks and of recorded steps, for every task that trains.

* Training in chunks is bit for bit training batch by batch.
* A step that is recorded once and replayed, for whole epochs, is bit for bit the step that runs as it comes.
* In the memory layout of tensor cores a step computes the same, up to the order of sums.
"""

from __future__ import annotations

import shutil
from collections.abc import Hashable
from pathlib import Path

import pytest
import torch

from lacuna.data.incomplete import Batch
from lacuna.runs.folder import RunFolder
from lacuna.runs.settings import Settings
from lacuna.tasks.base import Task
from lacuna.tasks.classifier import TrainClassifier
from lacuna.tasks.common import stepping
from lacuna.tasks.common.adversarial import AdversarialTask
from lacuna.tasks.common.stepping import Stepping
from lacuna.tasks.mcflow.task import TrainMCFlow
from lacuna.training.loading import make_task, open_data
from lacuna.training.speed import set_speed
from tests.runs.real import contents, recipe
from tests.tasks.recorded import assert_replays_are_steps, trained

COMMON = (
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "data.train_images=100",
    "data.validation=50",
    "data.validation_images=10",
    "data.test_images=10",
)
IMPUTE = ("experiment=digits_impute", "features=none")
ALTERNATING = (
    *IMPUTE,
    "imputer=prflow_digits",
    "imputer.flow.widths=[16]",
    "imputer.net.widths=[16]",
    "imputer.training.batch_size=8",
    "imputer.training.epochs=4",
    "imputer.training.refresh.first=2",
)
RUNS: dict[str, tuple[str, ...]] = {
    "misconv": (
        "experiment=digits_misconv",
        "density.training.epochs=1",
        "density.training.batch_size=8",
        "net.training.epochs=2",
        "net.training.batch_size=8",
        "net.training.lr_milestones=[[1,1e-4]]",
    ),
    "zero": ("experiment=digits_zero", "net.training.epochs=2", "net.training.batch_size=8"),
    "bfloat16": (
        "experiment=digits_zero",
        "precision=bf16-mixed",
        "net.training.epochs=2",
        "net.training.batch_size=8",
    ),
    "by name": (
        "experiment=digits_zero",
        "net=timm",
        "net.type=timm.test_resnet",
        "net.training.epochs=2",
        "net.training.batch_size=8",
    ),
    "partial": ("experiment=digits_partial", "net.training.epochs=2", "net.training.batch_size=8"),
    "dmfa": (
        "experiment=digits_dmfa",
        "density.training.epochs=3",
        "density.training.mse_epochs=1",
        "density.training.batch_size=8",
        "density.training.lr_milestones=[[2,1e-5]]",
    ),
    "wae": (
        "experiment=digits_wae",
        "features=none",
        "net.training.epochs=2",
        "net.training.batch_size=8",
        "net.training.lr_milestones=[[1,1e-4]]",
    ),
    "acflow": (
        "experiment=digits_flow",
        "flow.training.epochs=2",
        "flow.training.batch_size=8",
        "flow.training.decay_steps=3",
        "flow.training.clip=5",
    ),
    "mcflow, leaky": (*ALTERNATING, "imputer.training.gradients=leaky", "imputer.training.prior.rule=running"),
    "mcflow, clean": (
        *ALTERNATING,
        "imputer.training.gradients=clean",
        "imputer.training.prior.rule=frozen",
        "imputer.training.prior.warm_up=1",
        "imputer.training.noise=0.05",
        "imputer.training.lr_milestones=[[3,1e-4]]",
    ),
    "misgan": (*IMPUTE, "imputer=misgan_digits", "imputer.training.epochs=2", "imputer.training.batch_size=8"),
    "pbigan": (
        *IMPUTE,
        "imputer=pbigan_digits",
        "imputer.training.epochs=4",
        "imputer.training.batch_size=8",
        "imputer.training.ramp_from=0.25",
        "imputer.training.final_lr=1e-5",
    ),
    "unet": (*IMPUTE, "imputer=unet_digits", "imputer.training.epochs=2", "imputer.training.batch_size=8"),
}


def run(name: str, root: Path, output: Path, *more: str) -> RunFolder:
    return trained(root, output, *RUNS[name], *COMMON, *more)


@pytest.mark.parametrize("name", RUNS)
def test_chunks_are_batches(name: str, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks: list[int] = []
    original = Stepping._count
    monkeypatch.setattr(Stepping, "_count", lambda self, batches: (chunks.append(batches), original(self, batches))[1])
    found = []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr(stepping, "CHUNK_SECONDS", seconds)
        found.append(contents(run(name, digits_root, tmp_path / str(seconds)).path))
        assert (max(chunks) == 1) == (seconds == 0) and min(chunks) >= 1
    assert found[0] == found[1]


@pytest.mark.parametrize("name", RUNS)
def test_replays_are_steps(name: str, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_replays_are_steps(monkeypatch, digits_root, tmp_path, *RUNS[name], *COMMON)


@pytest.mark.parametrize("name", [name for name in RUNS if name != "bfloat16"])
def test_memory_layout_changes_rounding_only(name: str, digits_root: Path, tmp_path: Path) -> None:
    """The loss and the length of every gradient of a step."""
    words = (*RUNS[name], *COMMON, f"data.root={digits_root}", f"output={tmp_path}", "trainer.channels_last=true")
    made = recipe(*words)
    settings = Settings(tmp_path, digits_root, False, {"accelerator": "cpu", "channels_last": True})
    losses, strides = [], []
    for last in (False, True):
        torch.manual_seed(0)
        task = make_task(made, settings, open_data(made, settings), untrained=True)
        task.cache_bytes = 0
        task.prepare()
        if last:
            set_speed(task, made, settings)
        torch.manual_seed(1)
        batch = task.data.train.batch(torch.arange(8))
        loss = losses_of(task, batch)
        loss.backward()
        losses.append(
            torch.stack([loss.detach(), *(w.grad.norm() for w in task.model.parameters() if w.grad is not None)])
        )
        strides.append([weight.stride() for weight in task.model.parameters() if weight.ndim == 4])
    assert torch.isfinite(losses[0]).all() and len(losses[0]) > 2
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-6)
    assert (strides[0] != strides[1]) == any(w.ndim == 4 and min(w.shape[1:]) > 1 for w in task.model.parameters())


def losses_of(task: Task, batch: Batch) -> torch.Tensor:
    """The sum of everything that a task minimises on a batch."""
    if isinstance(task, AdversarialTask):
        return task.critic_loss(batch) + task.generator_loss(batch)
    if isinstance(task, TrainMCFlow):
        output = task.model.reconstruct(batch.observed)
        return output.image.square().mean() - output.log_prob.mean()
    return task.loss(batch)[0]


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


@pytest.mark.parametrize("layout", ["false", "true"])
@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["between chunks", "within a chunk"])
def test_a_killed_run_ends_as_an_unbroken_one(
    seconds: float, layout: str, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second epoch; in either memory layout, and also from a checkpoint that was written in the other one."""
    more = (f"trainer.channels_last={layout}", "trainer.checkpoint_seconds=0")
    whole = run("zero", digits_root, tmp_path / "whole", *more)
    calls, original = [0], TrainClassifier.step

    def mortal(self: TrainClassifier, batch: Batch, kind: Hashable) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 20:
            raise Killed
        return original(self, batch, kind)

    with monkeypatch.context() as patch:
        patch.setattr(stepping, "CHUNK_SECONDS", seconds)
        patch.setattr(TrainClassifier, "step", mortal)
        with pytest.raises(Killed):
            run("zero", digits_root, tmp_path / "cut", *more)
    shutil.copytree(tmp_path / "cut", tmp_path / "other")
    assert contents(run("zero", digits_root, tmp_path / "cut", *more).path) == contents(whole.path)
    other = run("zero", digits_root, tmp_path / "other", *more[1:], f"trainer.channels_last={layout == 'false'}")
    for name, value in whole.metrics["metrics"].items():
        assert other.metrics["metrics"][name] == pytest.approx(value, rel=0.02, abs=0.02)
