"""Base class of training tasks: LightningModules, one per file."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.config.training_options import LIMIT
from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.data.module import IncompleteData
from lacuna.drawing.pictures import Row
from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common import distributed
from lacuna.tasks.common.learning_rate import share_of_rate
from lacuna.tasks.common.models import Sizes, foreign
from lacuna.tasks.common.optimizers import make_optimizer, plain, set_rate
from lacuna.tasks.common.running_mean import RunningMean
from lacuna.tasks.common.stepping import Stepping


class Task(Stepping):
    """Trains a model and evaluates it.

    Args:
        config: the recipe.
        sizes: of the data.
        prerequisites: trained models that this one uses, frozen, by key of the recipe.
        data: the incomplete images.
        eval_batch_size: images per step in evaluation.
        cache_bytes: largest size of the cached encodings of the training images.
        cache: folder for results that other runs can use (FID's reference statistics, for example); None: no cache.
        cache_folder: folder for encodings that other runs can use; None: they are kept in memory only.
    """

    component: str
    """The key of the recipe that holds the trained or fitted component, with its ``training`` if it is trained."""

    several_devices = True
    """Whether ranks may share the batches (the loss is a mean over items); if not, a run uses one device."""

    def __init__(
        self,
        config: Mapping[str, Any],
        sizes: Sizes,
        prerequisites: Mapping[str, nn.Module],
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
        # metric -> protocol, for metrics whose name does not say it; filled by results()
        self.protocols: dict[str, str] = {}
        # a plain dict, so that the prerequisites are registered only once, inside the model
        self.prerequisites = dict(prerequisites)
        self.model = self.build()
        self.mean_loss = RunningMean()
        self.latest_metrics: dict[str, float] = {}
        """What was logged after the last epoch."""

    # ------------------------------------------------------------------ what a task must implement

    @abstractmethod
    def build(self) -> nn.Module:
        """The model to train."""

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor | int]:
        """Mean loss of a training batch and its number of items, the weight of the loss across devices.

        Raises:
            NotImplementedError: the task has no training steps, or its own ones.
        """
        raise NotImplementedError(f"{type(self).__name__} does not train with this loss.")

    @abstractmethod
    def evaluate(self, images: IncompleteImages) -> dict[str, float]:
        """Metrics of the model on a set with truth."""

    @abstractmethod
    def results(self) -> dict[str, float]:
        """The final metrics of the run, ``split/metric``."""

    @abstractmethod
    def draw(self, folder: Path) -> dict[str, Path]:
        """Write pictures to ``folder``; returns name -> file."""

    def preview(self, batch: Batch) -> dict[str, list[Row]]:
        """Rows of pictures, by name, of what the model makes of some images, to be looked at during the training.

        Called between epochs, in evaluation mode, without gradient; ``batch`` has no truth.
        """
        return {}

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Check for mistakes that building the model does not find, before anything is trained.

        Raises:
            LacunaError: the run would fail later.
        """

    def prepare(self) -> None:
        """Work to be done once, on the device, before training or evaluation."""

    # ------------------------------------------------------------------ training, the same for all

    def configure_optimizers(self) -> Any:
        """By default Adam with default betas, as in both papers."""
        return make_optimizer(self.training_spec, [p for p in self.model.parameters() if p.requires_grad])

    @property
    def train_images(self) -> IncompleteImages:
        """The incomplete training images."""
        return self.data.train

    @property
    def batch_size(self) -> int:
        """Images of a full training batch (over all ranks)."""
        size: int = self.training_spec["batch_size"]
        return size

    @property
    def batches_of_epoch(self) -> int:
        """Number of training batches of an epoch."""
        batches = -(-len(self.train_images) // self.batch_size)
        return min(batches, self.training_spec.get(LIMIT) or batches)

    def on_fit_start(self) -> None:
        """Prepare on the training device."""
        self.prepare()
        self.model.train()

    def on_train_start(self) -> None:
        """Choose how steps run. In the middle of an epoch, where a resumed fit starts, no other hook sets rates."""
        super().on_train_start()
        self.begin_epoch()

    def on_train_epoch_start(self) -> None:
        """Set what depends on the epoch."""
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Set the learning rate of this epoch, and whatever else depends on it; may be called again within it."""
        self.set_rate(self.rate())

    @property
    def rate_changes(self) -> bool:
        """Whether the learning rate changes from batch to batch."""
        return "schedule" in self.training_spec or "warmup" in self.training_spec

    def rate(self) -> float:
        """The learning rate of the next step."""
        lr: float = self.training_spec["lr"]
        for epoch, value in self.training_spec["lr_milestones"]:
            lr = value if self.current_epoch >= epoch else lr
        if self.rate_changes:
            lr *= share_of_rate(self.training_spec, self.batches_done, self.batches_of_epoch)
        return lr

    def set_rate(self, lr: float) -> None:
        """Set the learning rate of the next steps."""
        for optimizer in self._optimizers():
            for group in optimizer.param_groups:
                set_rate(group, lr)

    def step(self, batch: Batch, kind: Hashable) -> Tensor:
        """Update the weights on one batch, or on this rank's share of it; returns the loss, detached.

        It may be recorded as a CUDA graph: see :class:`lacuna.tasks.common.steps.GraphedSteps` for what that needs.
        """
        (optimizer,) = self._optimizers()
        optimizer.zero_grad()
        loss, count = self.loss(batch)
        self.mean_loss.update(loss, count)
        self.differentiate(loss, count)
        self.before_update()
        self.update(optimizer)
        return loss.detach()

    def before_update(self) -> None:
        """Change the gradients before the optimiser's step."""

    def check_finite(self) -> None:
        """Check the losses since the start of the epoch.

        Raises:
            LacunaError: one is not finite.
        """
        total = self.mean_loss.total
        if total is not None and not bool(total.isfinite()):
            self._diverged(float(total))

    def _diverged(self, loss: float) -> None:
        raise LacunaError(
            f"The loss became {loss} in epoch {self.current_epoch}: lower {self.component}.training.lr"
            f" (now {self.training_spec['lr']})."
        )

    def on_train_epoch_end(self) -> None:
        """Log the epoch in one row.

        Without Lightning's ``log``, which takes as long for a value as a small network for a step, and rounds it.
        """
        self.latest_metrics = self.epoch_metrics()
        step = self.trainer.fit_loop.epoch_loop._batches_that_stepped - 1
        for logger in self.trainer.loggers:
            logger.log_metrics({**self.latest_metrics, "epoch": self.current_epoch}, step)

    def epoch_metrics(self) -> dict[str, float]:
        """The epoch's mean loss and the validation metrics.

        Raises:
            LacunaError: the loss is no longer finite.
        """
        loss = self.mean_loss.compute()
        if not math.isfinite(loss):
            self._diverged(loss)
        metrics = {"train/loss": loss}
        if self.data.has_validation:
            found = distributed.on_first_rank(self.validate)
            metrics |= {f"validation/{k}": v for k, v in found.items()}
        return metrics

    def validate(self) -> dict[str, float]:
        """Metrics of the validation images after an epoch."""
        return self.evaluate(self.data.validation)

    def batches(self, images: IncompleteImages, most: int | None = None) -> Iterator[EvalBatch]:
        """Batches of a set with truth, in order; at most the first ``most`` images."""
        number = len(images) if most is None else min(most, len(images))
        for start in range(0, number, self.eval_batch_size):
            end = min(start + self.eval_batch_size, number)
            batch = images.batch(torch.arange(start, end, device=images.device))
            assert isinstance(batch, EvalBatch)
            yield batch

    def cache_file(self, images: IncompleteImages) -> Path | None:
        """The file for cached encodings of a set; None if there is no ``cache_folder``."""
        if self.cache_folder is None:
            return None
        chosen = hashlib.sha256(images.index.cpu().numpy().tobytes()).hexdigest()[:12]
        return self.cache_folder / f"{images.split}-{chosen}.safetensors"

    # ------------------------------------------------------------------ checkpoints hold this run's weights only

    def training_state(self) -> dict[str, Any]:
        """What a checkpoint keeps besides the weights."""
        return {"batches": self.batches_done}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""
        self.batches_done = state["batches"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remove the weights of prerequisites, which their own runs store, and what belongs to the device."""
        skip = tuple(f"model.{prefix}" for prefix in foreign(self.model, self.prerequisites))
        if skip:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith(skip)}
        checkpoint["optimizer_states"] = [plain(state) for state in checkpoint["optimizer_states"]]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the weights of prerequisites again."""
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
        self.batches_done = checkpoint["global_step"]  # of a checkpoint from before chunks
