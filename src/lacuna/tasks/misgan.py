"""Train MisGAN on incomplete images (Li, Jiang and Marlin 2019, section 4: the imputation variant, from scratch)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lacuna.data.incomplete import Batch
from lacuna.data.module import IncompleteData
from lacuna.imputers.misgan import MisGAN
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common.adversarial import AdversarialTask, check_numbers
from lacuna.tasks.common.wgan import critic_losses, weigh_gradient


class TrainMisGAN(AdversarialTask):
    """Joint training of three WGANs: of incomplete images, of masks, and of imputations.

    The data critic compares f_tau(x, m) with f_tau(G_x(z), G_m(e)), the mask critic m with G_m(e), and the imputer's
    critic the generated complete image G_x(z) with the imputation, observed pixels put back. Each generator minimises
    its own loss and, with weights of ``imputer.training``, the mask generator G_m ``alpha`` times the data critic's,
    the data generator G_x ``beta`` E D_i(G_x(z)) as in the paper (absent in the authors' code: beta = 0), and the
    imputer G_i ``gamma`` times its squared error at observed values (0 as published).
    """

    model: MisGAN
    terms = ("data_distance", "mask_distance", "imputer_distance", "observed_error")

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Check the settings of the training."""
        super().check(recipe, data)
        check_numbers(recipe, {"imputer_lr": 0, "alpha": 0, "beta": 0, "gamma": 0})

    def groups(self, weights: list[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
        """Parameter groups: the imputer and its critic have the learning rate ``imputer_lr``."""
        found = []
        for of_imputer, rate in ((False, "lr"), (True, "imputer_lr")):
            chosen = [weight for name, weight in weights if name.startswith("imputer") == of_imputer]
            found.append({"params": chosen, "lr": self.training_spec[rate]})
        return found

    def critic_loss(self, batch: Batch) -> Tensor:
        """The sum of the losses of the three critics, which share no weights."""
        model, mask = self.model, self._mask(batch)
        with torch.no_grad():
            image, generated_mask = model.images(self._code(batch)), model.masks(self._code(batch))
            imputed, _ = model.completed(batch.observed, batch.mask, torch.rand_like(batch.observed))
            incomplete = model.incomplete(batch.observed, mask), model.incomplete(image, generated_mask)
        losses = []
        for term, critic, real, fake in (
            ("data_distance", model.data_critic, *incomplete),
            ("mask_distance", model.mask_critic, mask, generated_mask),
            ("imputer_distance", model.imputer_critic, image, imputed),
        ):
            loss, distance = critic_losses(critic, [real], [fake])
            self.means[term].update(distance, len(batch))
            losses.append(loss)
        return torch.stack(losses).sum()

    def generator_loss(self, batch: Batch) -> Tensor:
        """The sum of the losses of the three generators; each gets the gradient of its own terms."""
        model, spec = self.model, self.training_spec
        image, mask = model.images(self._code(batch)), model.masks(self._code(batch))
        incomplete = model.incomplete(image, weigh_gradient(mask, spec["alpha"]))
        imputed, raw = model.completed(batch.observed, batch.mask, torch.rand_like(batch.observed))
        observed = batch.mask.expand_as(raw)
        error = torch.where(observed, raw - batch.observed, 0).square().sum() / observed.sum().clamp(min=1)
        self.means["observed_error"].update(error, len(batch))
        loss: Tensor = (
            -model.data_critic(incomplete).mean()
            - model.mask_critic(mask).mean()
            - model.imputer_critic(imputed).mean()
        )
        if spec["beta"]:
            loss = loss + spec["beta"] * model.imputer_critic(image).mean()
        return loss + spec["gamma"] * error if spec["gamma"] else loss

    def _mask(self, batch: Batch) -> Tensor:
        """Real masks as input of the mask critic: floating point, with the mask channels of the data."""
        channels = self.sizes.mask_channels
        return batch.mask.expand(-1, channels, -1, -1).to(batch.observed.dtype)

    def _code(self, batch: Batch) -> Tensor:
        return torch.randn(len(batch), self.model.latent, device=batch.observed.device)
