"""Law: killed anywhere and started again = never killed, bit for bit, history included (design, law 8)."""

from __future__ import annotations

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
from lacuna.training.loggers import DiskLogger, read_history
from lacuna.training.progress import QUIET_TRAINER
from lacuna.training.resume import Resume
from tests.runs import tiny
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
    script = Path(tiny.__file__)
    for place in ("step7", "after11"):
        assert subprocess.run([sys.executable, str(script), str(tmp_path), place], check=False).returncode == -9
    assert_equal(killed_then_resumed(tmp_path, []), reference)


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
