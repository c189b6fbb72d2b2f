"""Base class of adversarially trained imputers: alternation of critics and generators, optimisers, logging."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.data.incomplete import Batch
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common.optimizers import make_optimizer, set_rate
from lacuna.tasks.common.running_mean import RunningMean
from lacuna.tasks.common.wgan import frozen
from lacuna.tasks.impute import ImputeTask

BETAS = (0.5, 0.9)
"""Adam's betas in all published code."""


class AdversarialTask(ImputeTask):
    """Critics learn from every batch, generators from every ``critic_steps``-th.

    Batches are counted across epochs; incomplete ones are skipped. The model's ``critics`` are its critics; all other
    weights belong to generators.
    """

    several_devices = False  # adversarial training is not implemented for several devices
    terms: Sequence[str] = ()
    """Names of the terms that are logged besides the loss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.means = {name: RunningMean() for name in self.terms}
        self.registered = nn.ModuleDict(self.means)  # registered, so that checkpoints contain them

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Check ``critic_steps``, besides the settings of every imputer's run."""
        super().check(recipe, data)
        steps = recipe.training["critic_steps"]
        if not (isinstance(steps, int) and steps >= 1):
            raise LacunaError(f"imputer.training.critic_steps={steps} must be a whole number of at least 1.")

    # ------------------------------------------------------------------ to be implemented by a method

    @abstractmethod
    def critic_loss(self, batch: Batch) -> Tensor:
        """The loss of the critics; no gradient reaches the generators."""

    @abstractmethod
    def generator_loss(self, batch: Batch) -> Tensor:
        """The loss of the generators; the critics are frozen."""

    @property
    def critics(self) -> list[nn.Module]:
        """The networks that are critics."""
        found: list[nn.Module] = self.model.critics  # type: ignore[assignment]
        return found

    # ------------------------------------------------------------------ training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One for all critics and one for all generators, by default Adam, which treats every weight separately."""
        of_critics = {id(weight) for critic in self.critics for weight in critic.parameters()}
        weights = list(self.model.named_parameters())
        made: list[torch.optim.Optimizer] = []
        for critic in (True, False):
            chosen = [(name, weight) for name, weight in weights if (id(weight) in of_critics) == critic]
            made.append(make_optimizer(self.training_spec, self.groups(chosen), BETAS))
        return made

    def groups(self, weights: list[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
        """Parameter groups with their learning rates."""
        return [{"params": [weight for _, weight in weights], "lr": self.training_spec["lr"]}]

    def set_rate(self, lr: float) -> None:
        """Set all learning rates, in their initial proportions."""
        share = lr / self.training_spec["lr"]
        for optimizer in self._optimizers():
            for group in optimizer.param_groups:
                set_rate(group, group.setdefault("start", float(group["lr"])) * share)

    def begin_batch(self, number: int, size: int) -> Hashable | None:
        """Whether critics learn, whether generators learn; None for an incomplete batch."""
        full = min(max(1, len(self.train_images) // self.batch_size), self.batches_of_epoch)
        if number >= full:
            return None
        turn = self.current_epoch * full + number
        return self.critics_learn(turn), self.generators_learn(turn)

    def step(self, batch: Batch, kind: Hashable) -> Tensor:
        """A step of the critics, the generators, or both; the loss of the first of these."""
        critics, generators = self._optimizers()
        assert isinstance(kind, tuple)
        critics_learn, generators_learn = kind[:2]
        losses: list[Tensor] = []
        if critics_learn:
            critics.zero_grad()
            losses.append(self.critic_loss(batch))
            self.mean_loss.update(losses[0], len(batch))
            self.differentiate(losses[0])
            self.update(critics)
        if generators_learn:
            with frozen(self.critics):
                generators.zero_grad()
                losses.append(self.generator_loss(batch))
                self.differentiate(losses[-1])
                self.update(generators)
        return losses[0].detach()

    def critics_learn(self, turn: int) -> bool:
        """Whether critics learn from batch number ``turn`` of the training, from 0."""
        return True

    def generators_learn(self, turn: int) -> bool:
        """Whether generators learn from batch number ``turn`` of the training, from 0."""
        steps: int = self.training_spec["critic_steps"]
        return turn % steps == steps - 1

    def epoch_metrics(self) -> dict[str, float]:
        """The critics' loss, the validation metrics, and the terms."""
        metrics = super().epoch_metrics()
        found = {f"train/{name}": mean.compute() for name, mean in self.means.items()}
        # a short epoch may lack a kind of step
        return metrics | {name: value for name, value in found.items() if not math.isnan(value)}

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The critics' loss, mean over a batch, and the number of images."""
        return self.critic_loss(batch), len(batch)


def check_numbers(recipe: Recipe, least: dict[str, float]) -> None:
    """Check that settings of the training are finite numbers of at least the given values."""
    for name, smallest in least.items():
        value = recipe.training[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not smallest <= value < math.inf:
            raise LacunaError(f"imputer.training.{name}={value} must be a number of at least {smallest:g}.")
