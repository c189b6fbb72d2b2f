"""A training in miniature with everything that a resume could get wrong: dropout, Adam, two kinds of schedule, random
transforms of the batch, metrics per step and per epoch, validation, a loader with an order of its own.

Run as a script (folder, step to die at) it kills itself with SIGKILL in the middle of that step.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from lacuna.tasks.common.running_mean import RunningMean
from lacuna.training.loggers import DiskLogger
from lacuna.training.progress import QUIET_TRAINER, quiet_lightning
from lacuna.training.resume import Resume

EPOCHS, BATCHES = 3, 5


class Killed(BaseException):
    """Stands for SIGKILL: nothing in lacuna or Lightning handles it by writing a file."""


class Loader:
    """Random vectors in an order that depends on the epoch; can continue in the middle."""

    def __init__(self) -> None:
        self.data = torch.randn(BATCHES * 4, 6, generator=torch.Generator().manual_seed(7))
        self.epoch = self.position = 0

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[torch.Tensor]:
        order = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(self.epoch))
        for position in range(self.position, BATCHES):
            self.position = position + 1
            yield self.data[order[position * 4 : position * 4 + 4]]

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


class Fixed(Loader):
    """The validation images: every pass is the same."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.data.split(4))


class Tiny(pl.LightningModule):
    def __init__(self, die_at: str = "", plateau: bool = False, real_kill: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(6, 8)
        self.net = torch.nn.Sequential(
            self.first, torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 6)
        )
        self.mean_loss = RunningMean()
        self.die_at, self.plateau, self.real_kill = die_at, plateau, real_kill

    def maybe_die(self, where: str, number: int) -> None:
        if self.die_at == f"{where}{number}":
            if self.real_kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed

    def on_after_batch_transfer(self, batch: torch.Tensor, dataloader_idx: int) -> torch.Tensor:
        return batch + 0.01 * torch.randn_like(batch) + 0.01 * float(np.random.rand()) + 0.01 * random.random()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = (self.net(batch) - batch).square().mean()
        self.mean_loss.update(loss, len(batch))
        self.log("loss", loss)
        self.maybe_die("step", self.trainer.fit_loop.total_batch_idx)
        return loss

    def on_train_batch_end(self, *args: Any) -> None:
        with torch.no_grad():  # a change after the callbacks' hook, like an average of the weights
            self.first.weight.mul_(0.999)
        self.maybe_die("after", self.trainer.fit_loop.total_batch_idx)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", (self.net(batch) - batch).square().mean() + 0.001 * torch.rand(()))

    def on_validation_epoch_end(self) -> None:
        self.maybe_die("val", self.current_epoch)

    def on_train_epoch_start(self) -> None:
        with torch.no_grad():
            self.first.weight.mul_(1 - 0.01 * torch.rand(()))
        self.maybe_die("start", self.current_epoch)

    def on_train_epoch_end(self) -> None:
        self.log("mean_loss", self.mean_loss.compute())
        self.maybe_die("end", self.current_epoch)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        if self.plateau:
            schedule: Any = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.3, threshold=0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val/loss"}}
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(folder: Path, module: Tiny, every_seconds: float = 0.0, **arguments: Any) -> pl.Trainer:
    quiet_lightning()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    resume = Resume(folder / "checkpoints", "abc", every_seconds)
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=1,
        logger=DiskLogger(folder),
        callbacks=[resume, *arguments.pop("callbacks", [])],
        log_every_n_steps=arguments.pop("log_every_n_steps", 2),
        **QUIET_TRAINER,
        **arguments,
    )
    trainer.fit(module, Loader(), Fixed(), ckpt_path=resume.latest(), weights_only=True)
    return trainer


def outcome(folder: Path, module: Tiny, trainer: pl.Trainer) -> tuple[dict[str, torch.Tensor], Any, str, torch.Tensor]:
    """Everything a later reader of the run could see."""
    return (
        {name: value.clone() for name, value in module.state_dict().items()},
        trainer.optimizers[0].state_dict(),
        (folder / "metrics.jsonl").read_text(),
        torch.rand(3),
    )


if __name__ == "__main__":
    where = Path(sys.argv[1])
    tiny = Tiny(sys.argv[2], real_kill=True)
    fit(where, tiny)
