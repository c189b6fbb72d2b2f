"""What the mirrors of a run see of its training beside the history: rates, times, the loss of a step, pictures.

None of it is in the history on disk, whose lines are the same for a resumed and an uninterrupted run.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from lacuna.data.incomplete import Batch
from lacuna.drawing.pictures import image_grid
from lacuna.tasks.base import Task
from lacuna.training.mirrors.run_mirrors import RunMirrors
from lacuna.training.random_state import random_state, set_random_state

STEP_SECONDS = 1.0
"""Between two losses of a step. A loss is read where a chunk of steps has ended, so that no step waits for it."""
TIMES = 10
"""Pictures in a training, about, where the config does not say how often."""
DRAWN = 8
"""Images of a picture."""


class Watch(Callback):
    """Tells the mirrors about the training, at ends of chunks and epochs.

    Args:
        mirrors: of the run.
    """

    def __init__(self, mirrors: RunMirrors) -> None:
        super().__init__()
        self.mirrors = mirrors
        self._epoch_started = self._read = time.monotonic()
        self._batches = 0
        self._draws = True

    @classmethod
    def of(cls, mirrors: RunMirrors) -> list[pl.Callback]:
        """One, if there is a mirror."""
        return [cls(mirrors)] if mirrors.any else []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell what is in the history of a resumed run."""
        self.mirrors.catch_up()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._epoch_started, self._batches = time.monotonic(), _batches(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell the loss of the last step of a chunk."""
        now = time.monotonic()
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is None or now - self._read < STEP_SECONDS:
            return
        self._read = now
        row = {"train/step_loss": float(loss), "epoch": trainer.current_epoch}
        self.mirrors.measured(row, _batches(pl_module) - 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the epoch, before its line is written and its validation starts; draw."""
        assert isinstance(pl_module, Task)
        seconds = max(time.monotonic() - self._epoch_started, 1e-9)
        images = min((_batches(pl_module) - self._batches) * pl_module.batch_size, len(pl_module.train_images))
        times = {"speed/epoch_seconds": seconds, "speed/images_per_second": images / seconds}
        self.mirrors.extras = times | learning_rates(pl_module)
        every = self.mirrors.options.pictures_every
        every = max(1, (trainer.max_epochs or 1) // TIMES) if every is None else every
        if every and (trainer.current_epoch + 1) % every == 0 and self._draws:
            self._draw(pl_module)

    def _draw(self, task: Task) -> None:
        """Show what the model makes of some images; their truth is not drawn. The training does not notice."""
        state = random_state(task.device)
        try:
            pictures = {f"training/{name}": image_grid(rows) for name, rows in preview(task).items()}
            self.mirrors.show(pictures, _batches(task) - 1)
            self._draws = bool(pictures)
        except Exception as error:  # too little memory, for example: it is only a picture
            self._draws = False
            print(f"no more pictures during this training: {error}", file=sys.stderr, flush=True)
        finally:
            set_random_state(state, task.device)


def learning_rates(task: Task) -> dict[str, float]:
    """The learning rates of all groups of weights; the first one's name has no number."""
    rates = [float(group["lr"]) for optimizer in task._optimizers() for group in optimizer.param_groups]
    return {f"train/learning_rate{f'_{n}' if n else ''}": rate for n, rate in enumerate(rates)}


@torch.no_grad()
def preview(task: Task) -> dict[str, Any]:
    """Rows of pictures of a task's model, by name, from the first validation images, or training images without any."""
    images = task.data.validation if task.data.has_validation else task.train_images
    batch = images.batch(torch.arange(min(DRAWN, len(images)), device=images.device))
    task.model.eval()
    try:
        # without truth, whatever set it is
        return task.preview(Batch(batch.observed, batch.mask, batch.label, batch.index))
    finally:
        task.model.train(task.training)


def _batches(module: pl.LightningModule) -> int:
    return int(getattr(module, "batches_done", 0))
