"""Train a density of missing pixels on incomplete images only (MisConv, appendix A.1).

In every epoch another region of each image is held out. The input of the network is the rest of the image; the loss is
the NLL of the observed pixels in that region. Missing pixels are never read.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import torch
from torch import Tensor

from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.densities.base import Density
from lacuna.drawing.pictures import Row, image_grid
from lacuna.tasks.common.held_out import HoldOutTask, ImputationMetrics
from lacuna.tasks.common.models import build_density


class TrainDMFA(HoldOutTask):
    """Maximise the likelihood of held-out pixels; the first epochs also minimise the squared error of the mean.

    In the first ``training.mse_epochs`` epochs the loss of a held-out value is its NLL + ``training.mse_weight`` x its
    squared error. The paper prints no weight. The authors' code adds the squared errors of the whole batch to the NLL
    of each of its b images and divides by b, which is Σ NLL / b + Σ errors. This is a weight of b, 64 in the paper's
    setting, up to a factor of the whole loss, to which Adam is invariant (theirs is per image, ours per value).
    """

    component = "density"

    def build(self) -> Density:
        """The density of the recipe."""
        return build_density(self.config, self.sizes)

    def begin_batch(self, number: int, size: int) -> Hashable | None:
        """Steps with the squared error in the loss are another kind."""
        return "mse" if self._with_mse else "nll"

    @property
    def _with_mse(self) -> bool:
        return bool(self.current_epoch < self.training_spec["mse_epochs"])

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """NLL per held-out value, in nats (in the first epochs plus the weighted squared error), and their number."""
        mask, held_out = self.training_masks(batch)
        mfa = self.model(batch.observed.masked_fill(~mask, 0), mask)
        held_out = held_out.expand_as(batch.observed)
        count = held_out.sum()
        least_one = count.clamp(min=1)
        loss = -mfa.log_prob(batch.observed, held_out).sum() / least_one
        if self._with_mse:
            errors = torch.where(held_out, mfa.expectation() - batch.observed, 0)
            loss = loss + self.training_spec["mse_weight"] * errors.square().sum() / least_one
        return loss, count

    @torch.no_grad()
    def evaluate(self, images: IncompleteImages) -> dict[str, float]:
        """Likelihood of the missing pixels, and the quality of the most probable imputation.

        With ``mask=none`` held-out pixels are the targets, the same ones every time.

        Returns:
            The metrics of :class:`lacuna.tasks.common.held_out.ImputationMetrics`.
        """
        model = self.model.eval()
        found = ImputationMetrics(self.sizes.shape)
        log_prob = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in self.batches(images):
            mask, target = self.evaluation_masks(images, batch)
            mfa = model(batch.observed.masked_fill(~mask, 0), mask)
            log_prob += mfa.log_prob(batch.truth, target).double().sum()
            found.update(torch.where(mask, batch.observed, mfa.mode().clamp(0, 1)), batch, target)
        model.train(self.training)
        return found.compute(log_prob)

    def preview(self, batch: Batch) -> dict[str, list[Row]]:
        """The density of held-out and missing pixels: its mean and standard deviation, a sample."""
        mask = self.preview_masks(batch)
        observed = batch.observed.masked_fill(~mask, 0)
        mfa = self.model(observed, mask).pin(observed, mask)
        (draw,) = mfa.sample(1, torch.Generator(observed.device).manual_seed(0)).clamp(0, 1)
        rows = [
            Row("observed", batch.observed, mask=batch.mask),
            Row("input", observed, mask=mask),
            Row("mean", mfa.expectation().clamp(0, 1)),
            Row("std. deviation", mfa.variance().mean(1, keepdim=True).sqrt(), heat=True),
            Row("a sample", draw),
        ]
        return {"imputations": rows}

    @torch.no_grad()
    def draw(self, folder: Path) -> dict[str, Path]:
        """Test images, their observed pixels, the density's mean and standard deviation, two samples."""
        model = self.model.eval()
        images = self.data.test
        batch = images.batch(torch.arange(min(10, len(images)), device=images.device))
        assert isinstance(batch, EvalBatch)
        mask, _ = self.evaluation_masks(images, batch)
        observed = batch.observed.masked_fill(~mask, 0)
        mfa = model(observed, mask).pin(observed, mask)
        draws = mfa.sample(2, torch.Generator(images.device).manual_seed(0)).clamp(0, 1)
        rows = [
            Row("truth", batch.truth, mask=batch.truth_mask),
            Row("observed", observed, mask=mask),
            Row("mean", mfa.expectation().clamp(0, 1)),
            Row("std. deviation", mfa.variance().mean(1, keepdim=True).sqrt(), heat=True),
            Row("sample 1", draws[0]),
            Row("sample 2", draws[1]),
        ]
        path = folder / "imputations.png"
        image_grid(rows, path=path)
        return {"imputations": path}
