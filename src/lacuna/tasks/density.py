"""Train a density of hidden pixels on incomplete images only (MisConv, appendix A.1).

In every step a second region is hidden on purpose, anew in each epoch; the network sees what is left and is scored on
the part of that region that was observed. What is really missing is never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.data.masks import MaskScheme, NoMask
from lacuna.densities.base import Density
from lacuna.metrics.masked import MaskedMetrics
from lacuna.registry import build
from lacuna.report.pictures import Row, image_grid
from lacuna.tasks.base import Task
from lacuna.tasks.models import build_density

SSIM_WINDOW = 7


class TrainDensity(Task):
    """Maximise the likelihood of purposely hidden pixels; the first epochs also minimise the mean's squared error."""

    part = "density"

    def __init__(self, content: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(content, *args, **kwargs)
        self.hide: MaskScheme = build("mask", content["density"]["hide"])

    def build(self) -> Density:
        """The density of the recipe."""
        return build_density(self.content, self.sizes)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood per scored value, in nats (plus the weighted squared error in the first epochs)."""
        shown = self.hide(batch.index, self.sizes.shape, seed=self.content["seed"], split=f"hide/{self.current_epoch}")
        keep, scored = batch.mask & shown, batch.mask & ~shown
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
            ``nll_per_dim`` (nats per hidden value, pooled), ``nll`` (nats per image), ``mse`` and ``rmse`` (pooled over
            hidden values), ``sse`` (per image, table 7's "MSE"), ``psnr`` (dB) and ``ssim`` (data_range 1) between the
            image and the image with its holes filled (no ``ssim`` where no 7x7 window of the truth is wholly known).
        """
        model = self.model.eval()
        ssim = ["ssim"] if min(self.sizes.shape[1:]) >= SSIM_WINDOW else []
        holes, whole = MaskedMetrics(["mse", "rmse"]), MaskedMetrics(["psnr", *ssim])
        log_prob = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in self.batches(images):
            mask, hidden = self._judged(images, batch)
            mfa = model(batch.observed.masked_fill(~mask, 0), mask)
            log_prob += mfa.log_prob(batch.truth, hidden).double().sum()
            filled = torch.where(mask, batch.observed, mfa.mode().clamp(0, 1))
            holes.update(filled, batch.truth, hidden)
            whole.update(filled, batch.truth, known=batch.known)
        model.train(self.training)
        found = holes.compute()
        found |= {"nll_per_dim": -float(log_prob) / found["pixels"], "nll": -float(log_prob) / found["images"]}
        found["sse"] = found["mse"] * found.pop("pixels") / found.pop("images")
        judged = whole.compute()
        return found | {name: judged[name] for name in ("psnr", *ssim) if name in judged}

    def _judged(self, images: IncompleteImages, batch: EvalBatch) -> tuple[Tensor, Tensor]:
        """What the model is shown, and the hidden values whose truth is known.

        Where the mask scheme hides nothing (a user's own incomplete images, say), the ``hide`` scheme does.
        """
        if not isinstance(images.scheme, NoMask):
            return batch.mask, ~batch.mask & batch.known
        shown = self.hide(batch.index, self.sizes.shape, seed=self.content["seed"], split=f"hide/{images.split}")
        return batch.mask & shown, batch.mask & ~shown

    def results(self) -> dict[str, float]:
        """Metrics of the test images."""
        return {f"test/{name}": value for name, value in self.evaluate(self.data.test).items()}

    @torch.no_grad()
    def draw(self, folder: Path) -> dict[str, Path]:
        """Test images, their holes, the density's mean and standard deviation, two samples."""
        model = self.model.eval()
        images = self.data.test
        batch = images.batch(torch.arange(min(10, len(images)), device=images.device))
        assert isinstance(batch, EvalBatch)
        mask, _ = self._judged(images, batch)
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
