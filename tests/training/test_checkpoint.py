"""Law: killed anywhere and started again = never killed, bit for bit, history included (design, law 8)."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from lacuna.data.incomplete import Batch, IncompleteImages
from lacuna.data.loader import ResidentLoader
from lacuna.data.masks import Square
from lacuna.data.prepared import Arrays
from lacuna.errors import LacunaError
from lacuna.tasks.common.running_mean import RunningMean
from lacuna.training.checkpoint import load
from lacuna.training.loggers import DiskLogger, read_history
from lacuna.training.progress import QUIET_TRAINER
from lacuna.training.resume import Resume
from tests.runs.tiny import BATCHES, EPOCHS, Killed, Tiny, fit, outcome

PLACES = [
    *(f"step{i}" for i in range(EPOCHS * BATCHES)),
    *(f"after{i}" for i in (0, 2, 4, 5, 9, 14)),
    *(f"{hook}{i}" for hook in ("val", "end", "start") for i in range(EPOCHS)),
]


def uninterrupted(folder: Path, **arguments: Any) -> Any:
    module = Tiny(plateau=arguments.pop("plateau", False))
    return outcome(folder, module, fit(folder, module, **arguments))


def assert_equal(a: Any, b: Any) -> None:
    assert a[2] == b[2]
    torch.testing.assert_close(a[0], b[0], rtol=0, atol=0)
    torch.testing.assert_close(a[1]["state"], b[1]["state"], rtol=0, atol=0)
    assert a[1]["param_groups"] == b[1]["param_groups"]
    assert torch.equal(a[3], b[3])


def killed_then_resumed(folder: Path, places: list[str], **arguments: Any) -> Any:
    plateau = arguments.pop("plateau", False)
    for place in places:
        with pytest.raises(Killed):
            fit(folder, Tiny(place, plateau), **arguments)
    module = Tiny(plateau=plateau)
    return outcome(folder, module, fit(folder, module, **arguments))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return uninterrupted(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """What comes of an uninterrupted training with some settings, trained once."""
    return cache(lambda *arguments: uninterrupted(tmp_path_factory.mktemp("expected"), **dict(arguments)))


@pytest.mark.parametrize("place", PLACES)
def test_killed_anywhere(place: str, reference: Any, tmp_path: Path) -> None:
    assert_equal(killed_then_resumed(tmp_path, [place]), reference)


def test_killed_many_times(reference: Any, tmp_path: Path) -> None:
    places = ["step0", "step1", "step4", "val0", "start1", "step7", "step8", "after9", "end1", "step13", "end2"]
    assert_equal(killed_then_resumed(tmp_path, places), reference)


@pytest.mark.parametrize("place", ["step3", "val0", "end0", "start1", "step6", "end1", "step11", "val2"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"every_seconds": 1e9},  # epoch ends only
        {"plateau": True},
        {"log_every_n_steps": 1},
        {"val_check_interval": 2},
        {"accumulate_grad_batches": 2},
        {"check_val_every_n_epoch": 2},
        {"limit_train_batches": 4},
    ],
    ids=str,
)
def test_with_other_settings(
    place: str, arguments: dict[str, Any], expected: Callable[..., Any], tmp_path: Path
) -> None:
    if arguments == {"check_val_every_n_epoch": 2} and place in ("val0", "val2"):
        pytest.skip("no validation in this epoch")
    assert_equal(killed_then_resumed(tmp_path, [place], **dict(arguments)), expected(*arguments.items()))


def test_early_stopping_is_remembered(tmp_path: Path) -> None:
    def stop() -> dict[str, Any]:
        return {"callbacks": [EarlyStopping("val/loss", patience=0, min_delta=10.0)], "max_time": None}

    expected = uninterrupted(tmp_path / "a", **stop())
    folder, module = tmp_path / "b", Tiny()
    trainer = fit(folder, module, **stop())
    assert trainer.current_epoch == 2
    assert_equal(outcome(folder, module, trainer), expected)
    again = Tiny()
    assert fit(folder, again, **stop()).current_epoch == 2
    torch.testing.assert_close(again.state_dict(), module.state_dict(), rtol=0, atol=0)
    assert (folder / "metrics.jsonl").read_text() == expected[2]


def test_a_finished_fit_is_not_trained_again(reference: Any, tmp_path: Path) -> None:
    fit(tmp_path, Tiny())
    module = Tiny(die_at="step14")
    assert_equal(outcome(tmp_path, module, fit(tmp_path, module)), reference)


def test_without_a_checkpoint_the_history_starts_afresh(reference: Any, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(tmp_path, Tiny("step4"), every_seconds=1e9)
    assert read_history(tmp_path / "metrics.jsonl")
    assert not (tmp_path / "checkpoints").exists()
    module = Tiny()
    assert_equal(outcome(tmp_path, module, fit(tmp_path, module)), reference)


@pytest.mark.slow
def test_sigkill_in_a_process_of_its_own(reference: Any, tmp_path: Path) -> None:
    script = Path(__file__).parent / "tiny.py"
    for place in ("step7", "after11"):
        assert subprocess.run([sys.executable, str(script), str(tmp_path), place], check=False).returncode == -9
    assert_equal(killed_then_resumed(tmp_path, []), reference)


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


class OnImages(pl.LightningModule):
    """A tiny fit on lacuna's own loader, to see that the two understand one another."""

    def __init__(self, die_at: int = -1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Linear(16, 2)
        self.seen: list[list[int]] = []
        self.die_at = die_at

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.trainer.fit_loop.total_batch_idx == self.die_at:
            raise Killed
        self.seen.append(batch.index.tolist())
        loss: torch.Tensor = self.net(batch.observed.flatten(1)).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


@pytest.mark.parametrize("die_at", [2, 5, 6, 7, 11])
def test_with_the_resident_loader(die_at: int, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (22, 1, 4, 4), dtype=np.uint8)

    def run(folder: Path, module: OnImages) -> OnImages:
        data = IncompleteImages(Arrays(images, None, None), Square(0.5), seed=0, split="train")
        resume = Resume(folder, "abc", 0.0)
        trainer = pl.Trainer(
            max_epochs=3, accelerator="cpu", logger=DiskLogger(folder), callbacks=[resume], **QUIET_TRAINER
        )
        loader = ResidentLoader(data, 4, shuffle=True, seed=3)
        trainer.fit(module, loader, ckpt_path=resume.latest(), weights_only=True)
        return module

    whole = run(tmp_path / "a", OnImages())
    assert len(whole.seen) == 18
    with pytest.raises(Killed):
        run(tmp_path / "b", OnImages(die_at))
    rest = run(tmp_path / "b", OnImages())
    assert rest.seen == whole.seen[die_at:]
    torch.testing.assert_close(rest.state_dict(), whole.state_dict(), rtol=0, atol=0)
