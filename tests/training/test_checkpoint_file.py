"""The file of a checkpoint: what is refused, what is never executed, and what is not written."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lacuna.errors import LacunaError
from lacuna.tasks.common.running_mean import RunningMean
from lacuna.training.checkpoint import load
from lacuna.training.resume import Resume
from tests.runs.tiny import Killed, Tiny, fit


def test_the_model_alone_is_in_the_state_dict() -> None:
    assert not [name for name in Tiny().state_dict() if "mean_loss" in name]


def test_another_recipes_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(tmp_path, Tiny("step3"))
    with pytest.raises(LacunaError, match="belongs to recipe abc, not to this run's xyz"):
        Resume(tmp_path / "checkpoints", "xyz").latest()


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(tmp_path, Tiny("step3"))
    path = tmp_path / "checkpoints" / "last.ckpt"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"nonsense", whole[:900] + bytes(400) + whole[1300:]):
        path.write_bytes(damaged)
        with pytest.raises(LacunaError, match="delete it and run the command again"):
            Resume(tmp_path / "checkpoints", "abc").latest()


def test_loading_never_executes_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "owned").touch, ())

    path = tmp_path / "last.ckpt"
    torch.save({"lacuna": {"recipe": "abc"}, "x": Evil()}, path)
    with pytest.raises(LacunaError, match="never executed"):
        load(path, "abc")
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(LacunaError):
        load(path, "abc")
    assert not (tmp_path / "owned").exists()


def test_missing(tmp_path: Path) -> None:
    assert Resume(tmp_path, "abc").latest() is None
    with pytest.raises(LacunaError, match="does not exist"):
        load(tmp_path / "last.ckpt", "abc")


def test_what_cannot_be_resumed_exactly_is_refused(tmp_path: Path) -> None:
    class Sums(Tiny):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            self.log("sum", loss, on_step=False, on_epoch=True)
            return loss

    with pytest.raises(ValueError, match="RunningMean"):
        fit(tmp_path, Sums())
    trainer = pl.Trainer(max_steps=3, callbacks=[Resume(tmp_path, "abc")], logger=False, accelerator="cpu")
    with pytest.raises(ValueError, match="max_epochs"):
        trainer.fit(Tiny(), [torch.zeros(4, 6)])


def test_a_full_disk_is_one_sentence_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        fit(tmp_path, Tiny("step3"))
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", full)
    with pytest.raises(LacunaError, match="No space left"):
        fit(tmp_path, Tiny())
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


class Diverges(Tiny):
    """From some step on a weight is not finite; the run stops at a later one."""

    def __init__(self, at: int, die_at: str, value: float, frozen: bool = False) -> None:
        super().__init__(die_at)
        self.at, self.value = at, value
        self.elsewhere = torch.nn.Parameter(torch.tensor([1e30, value]), requires_grad=False) if frozen else None

    def on_train_batch_end(self, *args: Any) -> None:
        if self.trainer.fit_loop.total_batch_idx == self.at:
            with torch.no_grad():
                self.first.bias[2] = self.value
        super().on_train_batch_end(*args)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("at", [1, 4, 7])  # inside and at the end of an epoch
def test_the_last_good_checkpoint_stays(at: int, value: float, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(tmp_path, Diverges(at, f"step{at + 4}", value))
    path = tmp_path / "checkpoints" / "last.ckpt"
    state = load(path, "abc")
    assert all(weight.isfinite().all() for weight in state["state_dict"].values())
    assert state["global_step"] == at
    assert [path.name for path in path.parent.iterdir()] == ["last.ckpt"]


def test_huge_weights_and_frozen_ones_are_saved(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(tmp_path, Diverges(3, "step4", 3e38, frozen=True))
    assert load(tmp_path / "checkpoints" / "last.ckpt", "abc")["global_step"] == 4
    with pytest.raises(Killed):
        fit(tmp_path / "frozen", Diverges(99, "step4", float("nan"), frozen=True))
    assert load(tmp_path / "frozen" / "checkpoints" / "last.ckpt", "abc")["global_step"] == 4


class Overflows(Tiny):
    """From some step on the loss is infinite, but no weight is: Adam divides by what is infinite, too."""

    def __init__(self, at: int, die_at: str) -> None:
        super().__init__(die_at)
        self.at, self.mean = at, RunningMean()

    def on_train_batch_end(self, *args: Any) -> None:
        here = self.trainer.fit_loop.total_batch_idx
        self.mean.update(torch.tensor(float("inf") if here == self.at else 1.0))
        super().on_train_batch_end(*args)


def test_a_checkpoint_that_could_only_fail_is_not_written(tmp_path: Path) -> None:
    """The epoch's mean would end the run anew, each time that it goes on from there."""
    with pytest.raises(Killed):
        fit(tmp_path, Overflows(4, "step6"))
    state = load(tmp_path / "checkpoints" / "last.ckpt", "abc")
    assert state["global_step"] == 4 and state["lacuna"]["ranks"][0]["modules"]["mean"]["total"].isfinite()


def test_running_mean() -> None:
    mean = RunningMean()
    mean.update(torch.tensor(2.0), 3)
    mean.update(torch.tensor(float("nan")), 0)
    mean.update(torch.tensor(6.0), torch.tensor(1))
    assert mean.compute() == 3.0
    assert mean.compute() != mean.compute()  # NaN: nothing was added since
