"""Train P-BiGAN on incomplete images (Li and Marlin 2020)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from lacuna.data.incomplete import Batch
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.imputers.pbigan import PBiGAN
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common.adversarial import AdversarialTask, check_numbers
from lacuna.tasks.common.optimizers import set_rate
from lacuna.tasks.common.wgan import critic_losses

RECONSTRUCTION = ("bce", "smooth_l1")
DECAY_STEPS = 10
"""Number of steps in which the generators' learning rate decays to ``final_lr``."""


class TrainPBiGAN(AdversarialTask):
    """A WGAN of pairs: (incomplete image, its code) against (decoded code under another image's mask, code).

    Settings in ``imputer.training``: Encoder and decoder minimise the critic's distance and ``reconstruction_weight``
    times the ``reconstruction`` loss, summed over observed values (``bce``, or ``smooth_l1``, which is half the squared
    error). That weight is 0 during the fraction ``ramp_from`` of the epochs and then grows linearly until the last
    (null: it is constant). ``final_lr`` is the generators' last learning rate, reached in ten equal factors (null: no
    decay). With ``own_batch`` generators learn from a batch of their own after ``critic_steps`` batches of the critic,
    else from the last of these.
    """

    model: PBiGAN
    terms = ("distance", "reconstruction")

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Check the settings of the training."""
        super().check(recipe, data)
        check_numbers(recipe, {"reconstruction_weight": 0})
        training = recipe.training
        if training["reconstruction"] not in RECONSTRUCTION:
            choices = " nor ".join(RECONSTRUCTION)
            raise LacunaError(f"imputer.training.reconstruction={training['reconstruction']} is neither {choices}.")
        for name, most in (("ramp_from", 1), ("final_lr", training["lr"])):
            value = training[name]
            if value is not None and not (isinstance(value, int | float) and 0 <= value <= most and value != 1):
                raise LacunaError(f"imputer.training.{name}={value} must be null or lie between 0 and {most:g}.")

    # ------------------------------------------------------------------ schedules

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # of this epoch; a tensor, for a recorded step reads it anew in every epoch
        self._weight: Tensor | None = None

    def set_rate(self, lr: float) -> None:
        """Set the learning rates; that of encoder and decoder also decays to ``final_lr``."""
        super().set_rate(lr)
        spec, (_, generators) = self.training_spec, self._optimizers()
        if spec["final_lr"] is not None:
            steps = DECAY_STEPS * self.current_epoch // spec["epochs"]
            factor = (spec["final_lr"] / spec["lr"]) ** (steps / DECAY_STEPS)
            for group in generators.param_groups:
                set_rate(group, group["start"] * (lr / spec["lr"]) * factor)

    def begin_epoch(self) -> None:
        """Set the learning rates and the weight of the reconstruction loss of this epoch."""
        super().begin_epoch()
        if self._weight is None:
            self._weight = torch.zeros((), device=self.device)
        self._weight.fill_(self.reconstruction_weight(self.current_epoch))

    def begin_batch(self, number: int, size: int) -> Hashable | None:
        """Whether critics learn, whether generators learn, and whether they also minimise the reconstruction loss."""
        learn = super().begin_batch(number, size)
        assert learn is None or isinstance(learn, tuple)
        return None if learn is None else (*learn, self.reconstruction_weight(self.current_epoch) > 0)

    def reconstruction_weight(self, epoch: int) -> float:
        """The weight of the reconstruction loss in an epoch, counted from 0."""
        spec = self.training_spec
        weight: float = spec["reconstruction_weight"]
        if spec["ramp_from"] is None:
            return weight
        start, last = spec["ramp_from"] * spec["epochs"], spec["epochs"]
        grown: float = max(0.0, (epoch + 1 - start) / (last - start))
        return weight * grown

    def critics_learn(self, turn: int) -> bool:
        """True for every batch, except the generators' own."""
        return not (self.training_spec["own_batch"] and self.generators_learn(turn))

    def generators_learn(self, turn: int) -> bool:
        """True for every ``critic_steps``-th batch, or for the one after them with ``own_batch``."""
        cycle: int = self.training_spec["critic_steps"] + bool(self.training_spec["own_batch"])
        return turn % cycle == cycle - 1

    # ------------------------------------------------------------------ losses

    def critic_loss(self, batch: Batch) -> Tensor:
        """The loss of the critic of pairs."""
        with torch.no_grad():
            code = self._encoded(batch)
            drawn = torch.randn_like(code)
            decoded = torch.sigmoid(self.model.decode(drawn)) * self._other_masks(batch)
        loss, distance = critic_losses(self.model.critic, [batch.observed, code], [decoded, drawn])
        self.means["distance"].update(distance, len(batch))
        return loss

    def generator_loss(self, batch: Batch) -> Tensor:
        """The loss of encoder and decoder: the critic's distance and the weighted reconstruction loss."""
        model = self.model
        code = self._encoded(batch)
        drawn = torch.randn_like(code)
        decoded = torch.sigmoid(model.decode(drawn)) * self._other_masks(batch)
        loss: Tensor = model.critic(batch.observed, code).mean() - model.critic(decoded, drawn).mean()
        if self.reconstruction_weight(self.current_epoch):
            error = self._reconstruction(model.decode(code), batch)
            self.means["reconstruction"].update(error, len(batch))
            weight = self.reconstruction_weight(self.current_epoch) if self._weight is None else self._weight
            loss = loss + weight * error
        return loss

    def _reconstruction(self, logits: Tensor, batch: Batch) -> Tensor:
        """The reconstruction loss: sum over observed values, mean over images."""
        if self.training_spec["reconstruction"] == "bce":
            each = binary_cross_entropy_with_logits(logits, batch.observed, reduction="none")
        else:
            each = smooth_l1_loss(torch.sigmoid(logits), batch.observed, reduction="none")
        return torch.where(batch.mask, each, 0).sum() / len(batch)

    def _encoded(self, batch: Batch) -> Tensor:
        noise = torch.randn(len(batch), self.model.latent, device=batch.observed.device)
        return self.model.encode(batch.observed, batch.mask, noise)

    def _other_masks(self, batch: Batch) -> Tensor:
        """Masks of random training images, floating point."""
        images = self.train_images
        rows = torch.randint(len(images), (len(batch),), device=images.device)
        return images.batch(rows).mask.to(batch.observed.dtype)
