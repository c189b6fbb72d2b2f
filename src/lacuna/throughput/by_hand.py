"""The loop that one writes by hand for a method: what lacuna's steps are compared with.

It gathers batches, computes losses and gradients, and makes the optimisers' steps; on a GPU each kind of step is one
CUDA graph. It keeps no means, no history and no checkpoints, logs nothing, and knows no Lightning.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lacuna.data.incomplete import Batch
from lacuna.errors import LacunaError
from lacuna.tasks.base import Task
from lacuna.tasks.common.adversarial import AdversarialTask
from lacuna.tasks.common.optimizers import make_capturable
from lacuna.tasks.common.running_mean import RunningMean
from lacuna.tasks.common.wgan import frozen
from lacuna.tasks.mcflow.task import TrainMCFlow

EAGER = 3
"""Eager steps of a kind before its graph is captured."""

Body = Callable[[Batch, Hashable], None]


class HandWritten:
    """Steps of a task, without the task's own loop.

    Args:
        task: on its device, prepared, in training mode.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.images = task, task.data.train
        made = task.configure_optimizers()
        self.optimizers: list[torch.optim.Optimizer] = made if isinstance(made, list) else [made]
        if not self.optimizers:
            raise LacunaError("EM makes no steps of an optimiser.")
        self.cuda = self.images.device.type == "cuda"
        if self.cuda:
            make_capturable(self.optimizers, self.images.device)
        self._body = self._choose()
        self._stream = torch.cuda.Stream(self.images.device) if self.cuda else None
        self._graphs: dict[Hashable, tuple[Tensor, Any]] = {}
        self._seen: dict[Hashable, int] = {}

    def step(self, positions: Tensor, number: int) -> None:
        """Step ``number`` of the training, on the full batch at some positions."""
        kind = self._kind(number)
        if kind in self._graphs:
            fixed, graph = self._graphs[kind]
            fixed.copy_(positions)
            graph.replay()
        elif self.cuda:
            self._on_stream(positions, kind)
        else:
            self._body(self.images.batch(positions), kind)

    def _on_stream(self, positions: Tensor, kind: Hashable) -> None:
        """An eager step, or, after some of them, a captured one."""
        assert self._stream is not None
        self._seen[kind] = self._seen.get(kind, 0) + 1
        torch.cuda.synchronize()
        if self._seen[kind] <= EAGER:
            with torch.cuda.stream(self._stream):
                self._body(self.images.batch(positions), kind)
        else:
            fixed, graph = positions.clone(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                self._body(self.images.batch(fixed), kind)
            self._graphs[kind] = fixed, graph
            graph.replay()
        torch.cuda.synchronize()

    def _kind(self, number: int) -> Hashable:
        task = self.task
        if isinstance(task, AdversarialTask):
            return task.critics_learn(number), task.generators_learn(number)
        return "step"

    def _choose(self) -> Body:
        if isinstance(self.task, AdversarialTask):
            return self._adversarial
        return self._alternating if isinstance(self.task, TrainMCFlow) else self._single

    def _single(self, batch: Batch, kind: Hashable) -> None:
        (optimizer,) = self.optimizers
        optimizer.zero_grad()
        self.task.loss(batch)[0].backward()
        self.task.before_update()
        optimizer.step()

    def _alternating(self, batch: Batch, kind: Hashable) -> None:
        task = self.task
        assert isinstance(task, TrainMCFlow)
        task.alternating.step(task.model, task.imputed(batch), batch.observed, batch.mask, *self.optimizers)

    def _adversarial(self, batch: Batch, kind: Hashable) -> None:
        task, (critics, generators) = self.task, self.optimizers
        assert isinstance(task, AdversarialTask) and isinstance(kind, tuple)
        if kind[0]:
            critics.zero_grad()
            task.critic_loss(batch).backward()
            critics.step()
        if kind[1]:
            with frozen(task.critics):
                generators.zero_grad()
                task.generator_loss(batch).backward()
                generators.step()


@contextmanager
def without_means() -> Any:
    """A context in which no running mean is kept: the losses of some methods keep those of their terms."""
    kept = RunningMean.update
    RunningMean.update = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        RunningMean.update = kept  # type: ignore[method-assign]
