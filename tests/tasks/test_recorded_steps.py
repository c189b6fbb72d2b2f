"""The laws of chunks and of recorded steps, for every task that trains.

* Training in chunks is bit for bit training batch by batch.
* A step that is recorded once and replayed, for whole epochs, is bit for bit the step that runs as it comes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lacuna.mfa import MFA
from lacuna.runs.folder import RunFolder
from lacuna.tasks.base import Task
from lacuna.tasks.common import optimizers, stepping
from lacuna.tasks.common.stepping import Stepping
from tests.runs.real import contents, recipe, train
from tests.tasks.tape import TapeRecorder

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
        "experiment=digits_acflow",
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
    words = (*RUNS[name], *COMMON, *more, f"data.root={root}", f"output={output}")
    assert train(*words) == 0
    return RunFolder.of(output, recipe(*words))


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
    recorders: list[TapeRecorder] = []

    def recorder(self: Task) -> TapeRecorder:
        recorders.append(TapeRecorder())
        return recorders[-1]

    def capturable(self: Task) -> None:
        """As on CUDA, but the learning rates keep their precision, so that results can be compared bit for bit."""
        original(self)
        optimizers.make_capturable(self._optimizers(), self.device, torch.float64)
        if self.step_mode == "graph":
            self.steps = stepping.GraphedSteps(self._step_at, self.batch_size, self.recorder())
        self.begin_epoch()

    original = Stepping.on_train_start
    monkeypatch.setattr(Stepping, "on_train_start", capturable)
    monkeypatch.setattr(Stepping, "recorder", recorder)
    monkeypatch.setattr(MFA, "_packed", lambda self, x, where: (self, x, where))  # only for the CPU: see there
    found = []
    for mode in ("eager", "graph"):
        found.append(contents(run(name, digits_root, tmp_path / mode, f"trainer.step={mode}").path))
    assert recorders and all(each.recorded and each.replayed > 2 * each.recorded for each in recorders)
    assert found[0] == found[1]
