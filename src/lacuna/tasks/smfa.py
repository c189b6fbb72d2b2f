"""Fit an SMFA to incomplete images by EM: an epoch is a pass of EM, after which the parameters are updated.

No pixel is held out in training: EM uses the observed pixels and integrates out the missing ones.
"""

from __future__ import annotations

from collections.abc import Hashable
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
"""Largest number of training images, drawn by the seed, from which the start values of EM are computed."""

MOST_NUMBERS = 1 << 26
"""Largest size of the mixtures of an evaluation batch; with several components it is several times that of a DMFA."""


class FitSMFA(TrainDMFA):
    """EM; evaluated like every density. ``train/loss`` is the NLL per observed value, in nats.

    Raises:
        LacunaError: the density is not an SMFA.
    """

    model: SMFA
    several_devices = False  # every process would only have the sums of its own images

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.model, SMFA):
            raise LacunaError(f"EM fits density.type=smfa.SMFA, not {self.config['density']['type']}.")
        self.em = EM()
        self.eval_batch_size = min(self.eval_batch_size, max(1, MOST_NUMBERS // self.model.numbers))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """No optimiser: EM needs none."""
        return []

    def prepare(self) -> None:
        """Compute start values from some of the images, unless a checkpoint has been loaded."""
        images = self.data.train
        if isinstance(images.scheme, NoMask):  # pixels of the data themselves may still be missing
            parts = torch.arange(len(images)).split(self.eval_batch_size)
            self.em.complete = all(bool(images.batch(part).mask.all()) for part in parts)
        if not self.model.started:
            order = permutation(len(images), "start", self.config["seed"])[:START_IMAGES]
            batch = images.batch(torch.from_numpy(order.copy()))
            self.model.start(batch.observed, batch.mask, self.config["seed"])

    def begin_epoch(self) -> None:
        """No learning rate to set."""

    def not_capturable(self) -> str | None:
        """EM has no steps to record: what a batch takes is large matrix products."""
        return "EM adds up sums over all images"

    def begin_batch(self, number: int, size: int) -> Hashable | None:
        """All steps are alike."""
        return "em"

    def step(self, batch: Batch, kind: Hashable) -> None:  # type: ignore[override]
        """Add the images to the pass."""
        self.em.add(self.model, batch.observed, batch.mask)

    def epoch_metrics(self) -> dict[str, float]:
        """Update the parameters; then the metrics as usual, with the likelihood at the start of the pass."""
        reached = self.em.update(self.model)
        self.mean_loss.update(torch.tensor(-reached.log_likelihood, dtype=torch.float64, device=self.device))
        return super().epoch_metrics()

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """NLL per observed value of a batch, in nats, and their number; EM minimises it over all images."""
        count = batch.mask.expand_as(batch.observed).sum()
        return -self.model.log_prob(batch.observed, batch.mask).sum() / count, count
