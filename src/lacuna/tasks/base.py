"""What every task shares: one LightningModule a file builds on this."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common import distributed as sharing
from lacuna.tasks.common.models import Sizes, foreign
from lacuna.tasks.common.running_mean import RunningMean


class Task(pl.LightningModule, ABC):
    """Trains a model and judges it.

    Args:
        config: the recipe.
        sizes: of the data.
        parts: models this one builds on, trained before, frozen here.
        data: the incomplete images.
        eval_batch_size: images a step when judging.
        cache_bytes: how much may be kept of what frozen parts say of the training images.
        cache: folder for what other runs can use as well (FID's reference statistics, say); None keeps nothing.
        cache_folder: where what frozen parts say is kept for other runs, by default nowhere.
    """

    component: str
    """The key of the recipe that holds what is made, with its ``training`` if it is trained and not only fitted."""

    several_devices = True
    """Whether ranks may share its batches, as gradients of a mean over items allow; if not, a run takes one device."""

    def __init__(
        self,
        config: Mapping[str, Any],
        sizes: Sizes,
        parts: Mapping[str, nn.Module],
        data: IncompleteData,
        *,
        eval_batch_size: int = 250,
        cache_bytes: float = 4e9,
        cache: Path | None = None,
        cache_folder: Path | None = None,
    ) -> None:
        super().__init__()
        self.config, self.sizes, self.data = config, sizes, data
        self.training_spec: Mapping[str, Any] = config[self.component].get("training", {})
        self.eval_batch_size, self.cache_bytes = eval_batch_size, cache_bytes
        self.cache, self.cache_folder = cache, cache_folder
        # metric -> how it was taken, where its name does not say that; results() fills it
        self.protocols: dict[str, str] = {}
        # a dict is no sub-module: the parts are registered once, inside the model
        self.parts = dict(parts)
        self.model = self.build()
        self.mean_loss = RunningMean()

    # ------------------------------------------------------------------ what a task must say

    @abstractmethod
    def build(self) -> nn.Module:
        """The model to train."""

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor | int]:
        """Mean loss of a training batch and how many items it is the mean of, by which several devices weigh theirs.

        Raises:
            NotImplementedError: of a task that has no steps, or steps of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss of its own to take steps by.")

    @abstractmethod
    def evaluate(self, images: IncompleteImages) -> dict[str, float]:
        """Metrics of the model on a set with truth."""

    @abstractmethod
    def results(self) -> dict[str, float]:
        """The final metrics of the run, ``split/metric``."""

    @abstractmethod
    def draw(self, folder: Path) -> dict[str, Path]:
        """Write pictures for people to look at; name -> file."""

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Find mistakes that building the model does not show, before anything is trained.

        Raises:
            LacunaError: what would have failed later.
        """

    def prepare(self) -> None:
        """Whatever must be done once, on the device, before training or judging."""

    # ------------------------------------------------------------------ training, the same for all

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with default betas, as both papers. Fused: one pass over the weights instead of a dozen."""
        weights = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.Adam(weights, lr=self.training_spec["lr"], fused=True)

    def on_fit_start(self) -> None:
        """Prepare on the training device."""
        self.prepare()
        self.model.train()

    def on_train_epoch_start(self) -> None:
        """Set the learning rate of this epoch."""
        self.set_rate(self.rate())

    def rate(self) -> float:
        """The learning rate of this epoch."""
        lr: float = self.training_spec["lr"]
        for epoch, value in self.training_spec["lr_milestones"]:
            lr = value if self.current_epoch >= epoch else lr
        return lr

    def set_rate(self, lr: float) -> None:
        """Take the next steps with this learning rate."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        for group in optimizer.param_groups:
            group["lr"] = lr

    def training_step(self, batch: Batch) -> Tensor:
        """One batch, or this rank's share of it; never waits for the device."""
        loss, count = self.loss(batch)
        self.mean_loss.update(loss, count)
        return sharing.weighted(loss, count)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss and the validation metrics.

        Raises:
            LacunaError: the loss is no longer finite.
        """
        loss = self.mean_loss.compute()
        if not math.isfinite(loss):
            raise LacunaError(
                f"The loss became {loss} in epoch {self.current_epoch}: lower {self.component}.training.lr"
                f" (now {self.training_spec['lr']})."
            )
        metrics = {"train/loss": loss}
        if self.data.has_validation:
            found = sharing.on_first_rank(self.validate)
            metrics |= {f"validation/{k}": v for k, v in found.items()}
        self.log_dict(metrics, sync_dist=False)

    def validate(self) -> dict[str, float]:
        """Metrics of the validation images after an epoch."""
        return self.evaluate(self.data.validation)

    def batches(self, images: IncompleteImages, most: int | None = None) -> Iterator[EvalBatch]:
        """All images of a set with truth, in order, or the first ``most`` of them."""
        number = len(images) if most is None else min(most, len(images))
        for start in range(0, number, self.eval_batch_size):
            end = min(start + self.eval_batch_size, number)
            batch = images.batch(torch.arange(start, end, device=images.device))
            assert isinstance(batch, EvalBatch)
            yield batch

    def cache_file(self, images: IncompleteImages) -> Path | None:
        """Where what the front says of a set is kept; None where it is not."""
        if self.cache_folder is None:
            return None
        chosen = hashlib.sha256(images.index.cpu().numpy().tobytes()).hexdigest()[:12]
        return self.cache_folder / f"{images.split}-{chosen}.safetensors"

    # ------------------------------------------------------------------ checkpoints hold this run's weights only

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the weights of other runs: they are stored there."""
        skip = tuple(f"model.{prefix}" for prefix in foreign(self.model, self.parts))
        if skip:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith(skip)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put them back."""
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
