"""Training of imputers by critics: whose turn it is, the optimisers, what is logged."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.data.incomplete import Batch
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common.running_mean import RunningMean
from lacuna.tasks.common.wgan import frozen
from lacuna.tasks.impute import ImputeTask

BETAS = (0.5, 0.9)
"""Of Adam, in all published code."""


class AdversarialTask(ImputeTask):
    """Critics learn from every batch, generators from every ``critic_steps``-th.

    The batches of all epochs are counted through; one that is not full is left out. Which weights belong to whom is
    said by the model's ``critics``: everything else generates.
    """

    several_devices = False  # critics and generators play against each other; gradients would be averaged apart
    terms: Sequence[str] = ()
    """What is logged beside the loss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False
        self.means = {name: RunningMean() for name in self.terms}
        self.registered = nn.ModuleDict(self.means)  # so that checkpoints find them

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """How often generators learn, besides what every imputer's run is asked."""
        super().check(recipe, data)
        steps = recipe.training["critic_steps"]
        if not (isinstance(steps, int) and steps >= 1):
            raise LacunaError(f"imputer.training.critic_steps={steps} must be a whole number of at least 1.")

    # ------------------------------------------------------------------ what a method must say

    @abstractmethod
    def critic_loss(self, batch: Batch) -> Tensor:
        """What the critics lower; no gradient reaches the generators."""

    @abstractmethod
    def generator_loss(self, batch: Batch) -> Tensor:
        """What the generators lower, while the critics are frozen."""

    @property
    def critics(self) -> list[nn.Module]:
        """What judges."""
        found: list[nn.Module] = self.model.critics  # type: ignore[assignment]
        return found

    # ------------------------------------------------------------------ training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:  # type: ignore[override]
        """One Adam for all critics and one for all generators: it treats every weight apart anyway."""
        judges = {id(weight) for critic in self.critics for weight in critic.parameters()}
        weights = list(self.model.named_parameters())
        made: list[torch.optim.Optimizer] = []
        for judging in (True, False):
            chosen = [(name, weight) for name, weight in weights if (id(weight) in judges) == judging]
            made.append(torch.optim.Adam(self.groups(chosen), betas=BETAS, fused=True))
        return made

    def groups(self, weights: list[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
        """Weights and their learning rate."""
        return [{"params": [weight for _, weight in weights], "lr": self.training_spec["lr"]}]

    def set_rate(self, lr: float) -> None:
        """All learning rates, in the proportions they began with."""
        start = self.training_spec["lr"]
        for optimizer in self._both():
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("start", group["lr"]) * (lr / start)

    def training_step(self, batch: Batch, number: int) -> Tensor | None:  # type: ignore[override]
        """A step of the critics, of the generators, or of both; never waits for the device."""
        full = len(self.data.train) // self.training_spec["batch_size"]
        if number >= max(1, full):
            return None
        turn = self.current_epoch * max(1, full) + number
        critics, generators = self._both()
        loss: Tensor | None = None
        if self.critics_learn(turn):
            loss = self.critic_loss(batch)
            self.mean_loss.update(loss, len(batch))
            critics.zero_grad()
            self.manual_backward(loss)
            critics.step()
        if self.generators_learn(turn):
            with frozen(self.critics):
                generators.zero_grad()
                self.manual_backward(self.generator_loss(batch))
                generators.step()
        return None if loss is None else loss.detach()

    def critics_learn(self, turn: int) -> bool:
        """Whether critics learn from batch number ``turn`` of the training."""
        return True

    def generators_learn(self, turn: int) -> bool:
        """Whether generators do."""
        steps: int = self.training_spec["critic_steps"]
        return turn % steps == steps - 1

    def on_train_epoch_end(self) -> None:
        """Log the critics' loss, the terms and the validation metrics."""
        super().on_train_epoch_end()
        found = {f"train/{name}": mean.compute() for name, mean in self.means.items()}
        # a short epoch need not hold every kind of step
        self.log_dict({name: value for name, value in found.items() if not math.isnan(value)}, sync_dist=False)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The critics' loss, the mean of a batch."""
        return self.critic_loss(batch), len(batch)

    def _both(self) -> list[Any]:
        found = self.optimizers()
        assert isinstance(found, list)
        return found


def check_numbers(recipe: Recipe, least: dict[str, float]) -> None:
    """Refuse settings of a training that are no numbers, or too small ones."""
    for name, smallest in least.items():
        value = recipe.training[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not smallest <= value < math.inf:
            raise LacunaError(f"imputer.training.{name}={value} must be a number of at least {smallest:g}.")
