"""Runs whose steps are recorded on a tape: what a replay computes, compared with steps that run as they come."""

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


def trained(root: Path, output: Path, *words: str) -> RunFolder:
    """The finished run of ``train.py words``."""
    words = (*words, f"data.root={root}", f"output={output}")
    assert train(*words) == 0
    return RunFolder.of(output, recipe(*words))


def assert_replays_are_steps(monkeypatch: pytest.MonkeyPatch, root: Path, folder: Path, *words: str) -> None:
    """A run whose steps are recorded once and replayed is bit for bit the run whose steps run as they come."""
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
        found.append(contents(trained(root, folder / mode, *words, f"trainer.step={mode}").path))
    assert recorders and all(each.recorded and each.replayed > 2 * each.recorded for each in recorders)
    assert found[0] == found[1]
