"""Train a density of hidden pixels on incomplete images only (MisConv, appendix A.1).

In every step a second region is hidden on purpose, anew in each epoch; the network sees what is left and is scored on
the part of that region that was observed. What is really missing is never read.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.densities.base import Density
from lacuna.drawing.pictures import Row, image_grid
from lacuna.tasks.common.held_out import HidingTask, JudgedImputations
from lacuna.tasks.common.models import build_density


class TrainDMFA(HidingTask):
    """Maximise the likelihood of purposely hidden pixels; the first epochs also minimise the mean's squared error.

    In the first ``training.mse_epochs`` epochs the loss of a scored value is its NLL + ``training.mse_weight`` x its
    squared error. The paper prints no weight. The authors' code adds the squared errors of the whole batch to the NLL
    of each of its b images and divides by b, which is Σ NLL / b + Σ errors: a weight of b, 64 in the paper's setting,
    up to a factor of the whole loss, which Adam does not feel (theirs is per image, ours per value).
    """

    component = "density"

    def build(self) -> Density:
        """The density of the recipe."""
        return build_density(self.config, self.sizes)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood per scored value, in nats (in the first epochs plus the weighted squared error)."""
        keep, scored = self.regions(batch)
        mfa = self.model(batch.observed.masked_fill(~keep, 0), keep)
        scored = scored.expand_as(batch.observed)
        count = scored.sum()
        least_one = count.clamp(min=1)
        loss = -mfa.log_prob(batch.observed, scored).sum() / least_one
        if self.current_epoch < self.training_spec["mse_epochs"]:
            errors = torch.where(scored, mfa.expectation() - batch.observed, 0)
            loss = loss + self.training_spec["mse_weight"] * errors.square().sum() / least_one
        return loss, count

    @torch.no_grad()
    def evaluate(self, images: IncompleteImages) -> dict[str, float]:
        """Likelihood of the hidden pixels, and how good the most probable imputation is.

        Behind ``mask=none`` pixels are hidden on purpose, the same ones every time.

        Returns:
            Those of :class:`lacuna.tasks.common.held_out.JudgedImputations`.
        """
        model = self.model.eval()
        found = JudgedImputations(self.sizes.shape)
        log_prob = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in self.batches(images):
            mask, hidden = self.judged(images, batch)
            mfa = model(batch.observed.masked_fill(~mask, 0), mask)
            log_prob += mfa.log_prob(batch.truth, hidden).double().sum()
            found.update(torch.where(mask, batch.observed, mfa.mode().clamp(0, 1)), batch, hidden)
        model.train(self.training)
        return found.compute(log_prob)

    @torch.no_grad()
    def draw(self, folder: Path) -> dict[str, Path]:
        """Test images, their holes, the density's mean and standard deviation, two samples."""
        model = self.model.eval()
        images = self.data.test
        batch = images.batch(torch.arange(min(10, len(images)), device=images.device))
        assert isinstance(batch, EvalBatch)
        mask, _ = self.judged(images, batch)
        observed = batch.observed.masked_fill(~mask, 0)
        mfa = model(observed, mask).pin(observed, mask)
        draws = mfa.sample(2, torch.Generator(images.device).manual_seed(0)).clamp(0, 1)
        rows = [
            Row("truth", batch.truth, mask=batch.known),
            Row("observed", observed, mask=mask),
            Row("mean", mfa.expectation().clamp(0, 1)),
            Row("std. deviation", mfa.variance().mean(1, keepdim=True).sqrt(), heat=True),
            Row("a sample", draws[0]),
            Row("another", draws[1]),
        ]
        path = folder / "imputations.png"
        image_grid(rows, path=path)
        return {"imputations": path}
