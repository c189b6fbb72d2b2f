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
    """Three WGANs at once: of incomplete images, of masks, and of imputations against generated complete images.

    The critics see f_tau(x, m) against f_tau(G_x(z), G_m(e)), m against G_m(e), and G_x(z) against the imputation with
    observed pixels pasted. ``imputer.training``: G_m lowers its own loss and ``alpha`` times the data critic's; G_x
    its own and ``beta`` E D_i(G_x(z)) as in the paper (in the authors' code that term is absent: beta = 0); G_i its
    own and ``gamma`` times its squared error at observed values (0 as published).
    """

    model: MisGAN
    terms = ("data_distance", "mask_distance", "imputer_distance", "observed_error")

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Settings of the training."""
        super().check(recipe, data)
        check_numbers(recipe, {"imputer_lr": 0, "alpha": 0, "beta": 0, "gamma": 0})

    def groups(self, weights: list[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
        """The imputer and its critic have a learning rate of their own."""
        found = []
        for mine, rate in ((False, "lr"), (True, "imputer_lr")):
            chosen = [weight for name, weight in weights if name.startswith("imputer") == mine]
            found.append({"params": chosen, "lr": self.training_spec[rate]})
        return found

    def critic_loss(self, batch: Batch) -> Tensor:
        """Of the three critics, which share no weights."""
        model, mask = self.model, self._mask(batch)
        with torch.no_grad():
            image, made_mask = model.images(self._code(batch)), model.masks(self._code(batch))
            imputed, _ = model.completed(batch.observed, batch.mask, torch.rand_like(batch.observed))
            shown = model.incomplete(batch.observed, mask), model.incomplete(image, made_mask)
        losses = []
        for term, critic, real, fake in (
            ("data_distance", model.data_critic, *shown),
            ("mask_distance", model.mask_critic, mask, made_mask),
            ("imputer_distance", model.imputer_critic, image, imputed),
        ):
            loss, distance = critic_losses(critic, [real], [fake])
            self.means[term].update(distance, len(batch))
            losses.append(loss)
        return torch.stack(losses).sum()

    def generator_loss(self, batch: Batch) -> Tensor:
        """Of the three generators, each with the gradient of its own terms."""
        model, spec = self.model, self.training_spec
        image, mask = model.images(self._code(batch)), model.masks(self._code(batch))
        shown = model.incomplete(image, weigh_gradient(mask, spec["alpha"]))
        imputed, raw = model.completed(batch.observed, batch.mask, torch.rand_like(batch.observed))
        observed = batch.mask.expand_as(raw)
        error = torch.where(observed, raw - batch.observed, 0).square().sum() / observed.sum().clamp(min=1)
        self.means["observed_error"].update(error, len(batch))
        loss: Tensor = (
            -model.data_critic(shown).mean() - model.mask_critic(mask).mean() - model.imputer_critic(imputed).mean()
        )
        if spec["beta"]:
            loss = loss + spec["beta"] * model.imputer_critic(image).mean()
        return loss + spec["gamma"] * error if spec["gamma"] else loss

    def _mask(self, batch: Batch) -> Tensor:
        """Real masks as the mask critic sees them: numbers, with as many channels as masks may have."""
        channels = self.sizes.mask_channels
        return batch.mask.expand(-1, channels, -1, -1).to(batch.observed.dtype)

    def _code(self, batch: Batch) -> Tensor:
        return torch.randn(len(batch), self.model.latent, device=batch.observed.device)
