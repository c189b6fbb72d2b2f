"""A training that diverges: one sentence, the last good checkpoint, a run that failed, and its reason in the table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.files import read_json
from lacuna.report.render import render, text
from lacuna.runs.folder import RunFolder
from lacuna.runs.settings import Settings
from lacuna.tables.gather import FAILED, gather
from lacuna.tables.request import find_tables
from lacuna.tables.select import selected
from lacuna.tasks.base import Task
from lacuna.training.run import execute
from tests.runs.real import recipe, train
from tests.tables.finished import plan

COMMON = (
    "experiment=digits_impute",
    "features=none",
    "imputer.training.batch_size=32",
    "data.train_images=100",
    "data.validation=100",
    "data.validation_images=20",
    "data.test_images=30",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "trainer.checkpoint_seconds=0",
)
FLOW = ("imputer.flow.widths=[16]", "imputer.net.widths=[16]", "imputer.training.epochs=4")
GAN = ("imputer.widths=[16,8]", "imputer.latent=4", "imputer.training.epochs=4", "imputer.training.critic_steps=2")
METHODS = {
    "mcflow": ("imputer=mcflow_digits", *FLOW),
    "prflow": (
        "imputer=prflow_digits", *FLOW, "imputer.training.gradients=leaky", "imputer.training.prior.rule=running",
        "imputer.training.prior.weight=0.1",
    ),
    "misgan": ("imputer=misgan_digits", *GAN),
    "pbigan": ("imputer=pbigan_digits", *GAN),
}  # fmt: skip


def numbers(state: Any) -> Iterator[torch.Tensor | float]:
    """Everything in a checkpoint that could be no number."""
    if isinstance(state, torch.Tensor | float):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from numbers(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from numbers(value)


@pytest.mark.parametrize("method", METHODS)
def test_the_last_good_state_is_kept_and_can_go_on_at_a_lower_rate(
    method: str, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the third epoch on the rate is infinite; every batch may be followed by a checkpoint."""
    words = (*COMMON, *METHODS[method], f"data.root={digits_root}", f"output={tmp_path}")
    rate = Task.rate

    def wild(self: Task) -> float:
        return math.inf if self.current_epoch >= 2 else rate(self)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "rate", wild)
        assert train(*words) != 0
    said = capsys.readouterr().err
    assert "in epoch 2" in said and "lower imputer.training.lr" in said and "Traceback" not in said
    run = RunFolder.of(tmp_path, recipe(*words))
    status = read_json(run.path / "status.json")
    assert status["state"] == "failed" and "lower imputer.training.lr" in status["error"] and not run.finished
    kept = torch.load(run.checkpoints / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 2  # of a batch of the epoch that ended it, or of the end of the one before
    assert all(torch.as_tensor(value).isfinite().all() for value in numbers(kept["state_dict"]))
    assert all(torch.as_tensor(value).isfinite().all() for value in numbers(kept["lacuna"]))
    kept_optimizers = [value for state in kept["optimizer_states"] for value in numbers(state["state"])]
    assert kept_optimizers and all(torch.as_tensor(value).isfinite().all() for value in kept_optimizers)
    assert train(*words) == 0  # the same command, now that the rate is as ever
    assert math.isfinite(run.metrics["metrics"]["test/rmse"])


@pytest.mark.parametrize("row", ["prflow", "mcflow"])
def test_the_table_says_why_there_is_no_number(row: str, digits_root: Path, tmp_path: Path) -> None:
    composer = Composer(CONFIGS, "reproduce")
    tables = find_tables(composer.base(["table=prflow/digits_rmse"])["table"], composer)
    values = {"imputer.training.lr": 1e30, "imputer.training.epochs": 3}
    made = plan(digits_root, tmp_path, *selected(tables, rates=[0.8], rows=[row]), values=values)
    (run,) = [run for run in made.runs.values() if run.recipe.task == "impute"]
    settings = Settings(tmp_path, digits_root, download=False, trainer={"accelerator": "cpu", "progress": False})
    for needed in run.recipe.prerequisites.values():
        execute(needed, settings, announce=False)
    with pytest.raises(LacunaError, match=r"lower imputer\.training\.lr"):
        execute(run.recipe, settings, announce=False)
    (result,) = gather(made)
    (cell,) = result.cells
    assert cell.state == FAILED and cell.mean is None and "lower imputer.training.lr" in cell.reason
    (page,) = render(made, tmp_path / "tables")
    for shown in (text(made), page.read_text(encoding="utf-8"), (page.parent / "table.csv").read_text()):
        assert "failed" in shown and "lower imputer.training.lr" in shown
