"""Fit an SMFA to incomplete images by EM: an epoch is a pass, and a pass ends with new parameters.

Nothing is hidden on purpose: EM scores what is observed and integrates out what is missing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lacuna.data.hashing import permutation
from lacuna.data.incomplete import Batch
from lacuna.data.masks import NoMask
from lacuna.densities.em import EM
from lacuna.densities.smfa import SMFA
from lacuna.errors import LacunaError
from lacuna.tasks.dmfa import TrainDMFA

START_IMAGES = 5000
"""Of a larger training set so many, chosen by the seed, say where EM starts."""

JUDGED_AT_ONCE = 1 << 26
"""Numbers in the mixtures of a batch: several components for every image take several times a DMFA's memory."""


class FitSMFA(TrainDMFA):
    """EM; judged like every density. ``train/loss`` is the negative log-likelihood per observed value, in nats.

    Raises:
        LacunaError: a density that EM cannot fit.
    """

    model: SMFA
    several_devices = False  # every process would have the sums of its own images only

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.model, SMFA):
            raise LacunaError(f"EM fits density.type=smfa.SMFA, not {self.config['density']['type']}.")
        self.automatic_optimization = False
        self.em = EM()
        self.eval_batch_size = min(self.eval_batch_size, max(1, JUDGED_AT_ONCE // self.model.numbers))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:  # type: ignore[override]
        """EM needs none."""
        return []

    def prepare(self) -> None:
        """Start from some of the images, unless a checkpoint has been loaded."""
        images = self.data.train
        if isinstance(images.scheme, NoMask):  # but for holes of the data themselves
            parts = torch.arange(len(images)).split(self.eval_batch_size)
            self.em.complete = all(bool(images.batch(part).mask.all()) for part in parts)
        if not self.model.started:
            order = permutation(len(images), "start", self.config["seed"])[:START_IMAGES]
            batch = images.batch(torch.from_numpy(order.copy()))
            self.model.start(batch.observed, batch.mask, self.config["seed"])

    def on_train_epoch_start(self) -> None:
        """No learning rate to set."""

    def training_step(self, batch: Batch) -> None:  # type: ignore[override]
        """Add the images to the pass."""
        self.em.add(self.model, batch.observed, batch.mask)

    def on_train_epoch_end(self) -> None:
        """New parameters; then log as usual, with the likelihood that the pass began with."""
        reached = self.em.update(self.model)
        self.mean_loss.update(torch.tensor(-reached.log_likelihood, dtype=torch.float64, device=self.device))
        super().on_train_epoch_end()

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood per observed value of a batch, in nats; what EM lowers over all images at once."""
        count = batch.mask.expand_as(batch.observed).sum()
        return -self.model.log_prob(batch.observed, batch.mask).sum() / count, count
