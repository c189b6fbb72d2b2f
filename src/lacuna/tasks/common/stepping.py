"""Training in chunks of steps: the base class of all tasks, between Lightning's loop and the step of a method."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Hashable
from types import SimpleNamespace

import pytorch_lightning as pl
import torch
from torch import Tensor

from lacuna.data.chunks import Chunk
from lacuna.data.incomplete import Batch, IncompleteImages
from lacuna.tasks.common import distributed
from lacuna.tasks.common.optimizers import make_capturable, match_layout
from lacuna.tasks.common.steps import CudaRecorder, EagerSteps, GraphedSteps, Recorder, announce

CHUNK_SECONDS = 0.25
"""Duration of a chunk of training steps. Around a chunk the trainer needs less than a hundredth of that."""


class Stepping(pl.LightningModule, ABC):
    """Trains on several batches in each of Lightning's training steps, and records their steps as CUDA graphs.

    What a subclass does to a batch is :meth:`step`.
    """

    takes_chunks = True
    """The data module gives :meth:`training_step` chunks of batches."""

    step_mode = "auto"
    """``trainer.step``: ``graph`` records steps as CUDA graphs, ``eager`` does not, ``auto``: graph where possible."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False  # of Lightning, which would make one step a chunk
        # a plain object, for setting an attribute of a module takes long compared with what else a step does in Python
        self._progress = SimpleNamespace(batches=0)
        self._known_optimizers: list[torch.optim.Optimizer] | None = None

    @property
    def batches_done(self) -> int:
        """Number of training batches so far."""
        number: int = self._progress.batches
        return number

    @batches_done.setter
    def batches_done(self, number: int) -> None:
        self._progress.batches = number

    @property
    @abstractmethod
    def train_images(self) -> IncompleteImages:
        """The training images, to which a chunk's positions refer."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Images of a full training batch (over all ranks)."""

    @property
    def rate_changes(self) -> bool:
        """Whether the learning rate changes from batch to batch."""
        return False

    def rate(self) -> float:
        """The learning rate of the next step, where it changes."""
        raise NotImplementedError(f"{type(self).__name__} has no schedule of learning rates.")

    def set_rate(self, lr: float) -> None:
        """Set the learning rate of the next steps, on the device where a graph reads it there."""
        raise NotImplementedError(f"{type(self).__name__} has no schedule of learning rates.")

    @abstractmethod
    def step(self, batch: Batch, kind: Hashable) -> Tensor:
        """Update the weights on one batch, or on this rank's share of it; returns the loss, detached.

        It may be recorded as a CUDA graph: see :class:`lacuna.tasks.common.steps.GraphedSteps` for what that needs.
        """

    @abstractmethod
    def check_finite(self) -> None:
        """Check the losses since the start of the epoch; waits for the device.

        Raises:
            LacunaError: one is not finite.
        """

    def on_train_start(self) -> None:
        """Choose how steps run."""
        # a scaled loss (half precision) and several ranks need what Lightning does around a backward pass and a step
        self._scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        self._bare = distributed.ranks() == 1 and not self._scaled
        self._known_optimizers = None
        self._known_optimizers = self._optimizers()
        match_layout(self._known_optimizers)
        self._images = self.train_images
        self.steps: EagerSteps | GraphedSteps = EagerSteps(self._step_at)
        if self.step_mode == "eager" or (self.step_mode == "auto" and self.device.type != "cuda"):
            return
        reason = self.not_capturable()
        if reason is not None:
            announce(reason)
            return
        make_capturable(self._known_optimizers, self.device)
        self.steps = GraphedSteps(self._step_at, self.batch_size, self.recorder())

    def on_train_end(self) -> None:
        """Return the memory of the recordings, before the evaluation."""
        self.steps.forget()

    def recorder(self) -> Recorder:
        """What records steps."""
        return CudaRecorder(self.device)

    def not_capturable(self) -> str | None:
        """Why steps cannot be recorded as CUDA graphs; None if they may be."""
        if self.device.type != "cuda":
            return f"a graph needs a GPU, and this training is on {self.device.type}"
        if distributed.ranks() > 1:
            return "several devices train this run"
        if self._scaled:
            return f"precision={self.trainer.precision} adapts the scale of the loss on the host"
        if not self.train_images.resident:
            return "the images are in host memory (trainer.resident_gb)"
        return None

    def training_step(self, chunk: Chunk) -> Tensor | None:
        """Train on batches of a chunk for a moment, without waiting for the device between them.

        Returns:
            The loss of the last batch.

        Raises:
            LacunaError: a loss is no longer finite.
        """
        loss, before, progress, steps = None, self.batches_done, self._progress, self.steps
        # ranks have to save checkpoints after the same batch
        alone, scheduled = distributed.ranks() == 1, self.rate_changes
        end = time.monotonic() + (CHUNK_SECONDS if alone else 0)
        with steps.together():
            for number, positions in chunk:
                if scheduled:
                    self.set_rate(self.rate())
                kind = self.begin_batch(number, len(positions))
                if kind is not None:
                    loss = steps(positions, kind)
                progress.batches += 1
                if time.monotonic() >= end:
                    break
        self._count(self.batches_done - before)
        if alone:
            self.check_finite()
        return loss

    def begin_batch(self, number: int, size: int) -> Hashable | None:
        """Decide on the host what happens to batch ``number`` of the epoch, of ``size`` images.

        Returns:
            The kind of step, for :meth:`step`; None: the batch is left out.
        """
        return "step"

    def differentiate(self, loss: Tensor, count: Tensor | int = 1) -> None:
        """Compute gradients of a mean over ``count`` items; over the items of all ranks, where there are several."""
        if self._bare:
            loss.backward()
        else:
            self.manual_backward(distributed.weighted(loss, count))

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """Make an optimiser's step."""
        if self._scaled:
            wrapped = self.optimizers()
            several = wrapped if isinstance(wrapped, list) else [wrapped]
            next(each for each in several if each.optimizer is optimizer).step()
        else:
            optimizer.step()

    def _step_at(self, positions: Tensor, kind: Hashable) -> Tensor:
        # weights cast for an earlier batch are out of date
        torch.clear_autocast_cache()
        return self.step(self._images.batch(positions), kind)

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimisers without Lightning's wrappers, which cost time at every step."""
        if self._known_optimizers is not None:
            return self._known_optimizers
        found = self.optimizers(use_pl_optimizer=False)
        return found if isinstance(found, list) else [found]

    def _count(self, batches: int) -> None:
        """Let Lightning's counters, which checkpoints and loggers use, count batches and not chunks."""
        loop = self.trainer.fit_loop.epoch_loop
        loop._batches_that_stepped += batches - 1
        steps = loop.manual_optimization.optim_step_progress.total
        steps.ready = steps.completed = self.batches_done
