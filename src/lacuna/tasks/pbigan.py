"""Train P-BiGAN on incomplete images (Li and Marlin 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from lacuna.data.incomplete import Batch
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.imputers.pbigan import PBiGAN
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common.adversarial import AdversarialTask, check_numbers
from lacuna.tasks.common.wgan import critic_losses

RECONSTRUCTION = ("bce", "smooth_l1")
DECAY_STEPS = 10
"""The generators' learning rate falls in so many steps, where it falls."""


class TrainPBiGAN(AdversarialTask):
    """Pairs (incomplete image, its code) and (decoded code behind another image's mask, code) become alike.

    ``imputer.training``: encoder and decoder lower the distance and ``reconstruction_weight`` times the
    ``reconstruction`` of observed values, a sum over them (``bce``, or ``smooth_l1``, which is half the squared error);
    the weight is 0 until the share ``ramp_from`` of the epochs and grows linearly from there to the last one (null:
    it is constant). ``final_lr``: where the generators' learning rate ends, in ten equal factors (null: it stays).
    ``own_batch``: generators learn from a batch of their own, after ``critic_steps`` of the critic's, not from the last
    of those as well.
    """

    model: PBiGAN
    terms = ("distance", "reconstruction")

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Settings of the training."""
        super().check(recipe, data)
        check_numbers(recipe, {"reconstruction_weight": 0})
        training = recipe.training
        if training["reconstruction"] not in RECONSTRUCTION:
            known = " nor ".join(RECONSTRUCTION)
            raise LacunaError(f"imputer.training.reconstruction={training['reconstruction']} is neither {known}.")
        for name, most in (("ramp_from", 1), ("final_lr", training["lr"])):
            value = training[name]
            if value is not None and not (isinstance(value, int | float) and 0 <= value <= most and value != 1):
                raise LacunaError(f"imputer.training.{name}={value} must be null or lie between 0 and {most:g}.")

    # ------------------------------------------------------------------ schedules

    def set_rate(self, lr: float) -> None:
        """The critic's rate stays; that of encoder and decoder falls."""
        super().set_rate(lr)
        spec, (_, generators) = self.training_spec, self._both()
        if spec["final_lr"] is not None:
            steps = DECAY_STEPS * self.current_epoch // spec["epochs"]
            for group in generators.param_groups:
                group["lr"] *= (spec["final_lr"] / spec["lr"]) ** (steps / DECAY_STEPS)

    def reconstruction_weight(self, epoch: int) -> float:
        """The weight of the reconstruction in an epoch, counted from 0."""
        spec = self.training_spec
        weight: float = spec["reconstruction_weight"]
        if spec["ramp_from"] is None:
            return weight
        start, last = spec["ramp_from"] * spec["epochs"], spec["epochs"]
        grown: float = max(0.0, (epoch + 1 - start) / (last - start))
        return weight * grown

    def critics_learn(self, turn: int) -> bool:
        """From every batch, or from all but the generators' own."""
        return not (self.training_spec["own_batch"] and self.generators_learn(turn))

    def generators_learn(self, turn: int) -> bool:
        """From every ``critic_steps``-th batch, or from one more after so many."""
        cycle: int = self.training_spec["critic_steps"] + bool(self.training_spec["own_batch"])
        return turn % cycle == cycle - 1

    # ------------------------------------------------------------------ losses

    def critic_loss(self, batch: Batch) -> Tensor:
        """Of the critic of pairs."""
        with torch.no_grad():
            code = self._encoded(batch)
            drawn = torch.randn_like(code)
            made = torch.sigmoid(self.model.decode(drawn)) * self._other_masks(batch)
        loss, distance = critic_losses(self.model.critic, [batch.observed, code], [made, drawn])
        self.means["distance"].update(distance, len(batch))
        return loss

    def generator_loss(self, batch: Batch) -> Tensor:
        """What critic and reconstruction say of encoder and decoder."""
        model = self.model
        code = self._encoded(batch)
        drawn = torch.randn_like(code)
        made = torch.sigmoid(model.decode(drawn)) * self._other_masks(batch)
        loss: Tensor = model.critic(batch.observed, code).mean() - model.critic(made, drawn).mean()
        weight = self.reconstruction_weight(self.current_epoch)
        if weight:
            error = self._reconstruction(model.decode(code), batch)
            self.means["reconstruction"].update(error, len(batch))
            loss = loss + weight * error
        return loss

    def _reconstruction(self, logits: Tensor, batch: Batch) -> Tensor:
        """Summed over observed values, mean over images."""
        if self.training_spec["reconstruction"] == "bce":
            each = binary_cross_entropy_with_logits(logits, batch.observed, reduction="none")
        else:
            each = smooth_l1_loss(torch.sigmoid(logits), batch.observed, reduction="none")
        return torch.where(batch.mask, each, 0).sum() / len(batch)

    def _encoded(self, batch: Batch) -> Tensor:
        noise = torch.randn(len(batch), self.model.latent, device=batch.observed.device)
        return self.model.encode(batch.observed, batch.mask, noise)

    def _other_masks(self, batch: Batch) -> Tensor:
        """Masks of other training images, as numbers."""
        images = self.data.train
        rows = torch.randint(len(images), (len(batch),), device=images.device)
        return images.batch(rows).mask.to(batch.observed.dtype)
