"""Train ACFlow, a conditional flow, on complete images as published or on incomplete ones.

As in ``dmfa.py`` observed pixels are held out, anew in each epoch, and are the target of the flow given the others.
Missing pixels are never read. On complete images this is the published training.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lacuna.data.hashing import key
from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.drawing.pictures import Row, image_grid
from lacuna.errors import LacunaError
from lacuna.flows.acflow import ACFlow
from lacuna.tasks.common.held_out import HoldOutTask, ImputationMetrics
from lacuna.tasks.common.models import build_flow

SAMPLES = 8
"""Samples of a test image, whose mean is evaluated."""
VALIDATION_IMAGES, VALIDATION_SAMPLES = 100, 2
"""Validation images after an epoch, and samples of each: so few that they do not compare with test metrics."""


class TrainACFlow(HoldOutTask):
    """Maximise a lower bound of the likelihood of held-out pixels.

    The flow of the last epoch is kept. The public code keeps that of the epoch with the best NLL on 5 000 validation
    images, which the papers' setting does not have.

    Raises:
        LacunaError: ``training.decay_steps`` or ``training.clip`` is out of its range.
    """

    component = "flow"
    model: ACFlow

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decay_steps, self.clip = self.training_spec["decay_steps"], self.training_spec["clip"]
        if self.decay_steps is not None and not (isinstance(self.decay_steps, int) and self.decay_steps >= 1):
            raise LacunaError(f"flow.training.decay_steps={self.decay_steps} must be null or at least 1.")
        if self.clip is not None and not (isinstance(self.clip, (int, float)) and self.clip > 0):
            raise LacunaError(f"flow.training.clip={self.clip} must be null or more than 0.")

    def build(self) -> ACFlow:
        """The flow of the recipe."""
        return build_flow(self.config, self.sizes)

    def begin_batch(self, number: int, size: int) -> Hashable | None:
        """Set the learning rate to lr / (1 + steps // decay_steps / 2) as in the public code; lr has milestones."""
        if self.decay_steps is not None and self.batches_done % self.decay_steps == 0:
            self.set_rate(self.rate())
        return super().begin_batch(number, size)

    def rate(self) -> float:
        """The learning rate of the next step."""
        steps = 0 if self.decay_steps is None else self.batches_done // self.decay_steps
        return super().rate() / (1 + 0.5 * steps)

    def before_update(self) -> None:
        """Clip the gradient's norm to ``clip``, on the device, without synchronisation."""
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The loss of :meth:`ACFlow.loss`, nats per *image* plus penalties, as published; and the number of images."""
        observed, target = self.training_masks(batch)
        return self.model.loss(batch.observed, observed, target), len(batch)

    def evaluate(self, images: IncompleteImages) -> dict[str, float]:
        """A bound of the likelihood of the target pixels, and errors of the mean of the flow's samples.

        The target are the pixels the mask hides; with ``mask=none`` observed pixels are held out, the same ones every
        time. The dequantising noise is the same every time, too.

        Returns:
            The metrics of :class:`lacuna.tasks.common.held_out.ImputationMetrics`, and ``bits_per_dim``. The flow
            models probabilities of grey levels. ``nll_per_dim`` and ``nll`` belong to the density that spreads each
            level evenly over its share of [0, 1], so that they compare with those of a density: they are smaller by
            log(levels) nats per value. ``bits_per_dim`` is that of the levels:
            (nll_per_dim + log(levels)) / log(2).
        """
        return self._judge(images, len(images), SAMPLES)

    def validate(self) -> dict[str, float]:
        """As :meth:`evaluate`, of few images and samples."""
        return self._judge(self.data.validation, VALIDATION_IMAGES, VALIDATION_SAMPLES)

    @torch.no_grad()
    def _judge(self, images: IncompleteImages, most: int, samples: int) -> dict[str, float]:
        model = self.model.eval()
        found = ImputationMetrics(self.sizes.shape)
        noise = torch.Generator(self.device).manual_seed(key("noise", images.split, self.config["seed"]))
        log_prob = torch.zeros((), dtype=torch.float64, device=self.device)
        log_levels = math.log(model.logit.levels)
        for batch in self.batches(images, most):
            mask, target = self.evaluation_masks(images, batch)
            wide = target.expand_as(batch.truth)
            log_prob += model.log_prob(batch.truth, mask, target, noise).double().sum() + wide.sum() * log_levels
            found.update(model.mean(batch.observed, mask, samples), batch, target)
        model.train(self.training)
        metrics = found.compute(log_prob)
        return metrics | {"bits_per_dim": (metrics["nll_per_dim"] + log_levels) / math.log(2)}

    def preview(self, batch: Batch) -> dict[str, list[Row]]:
        """Samples of held-out and missing pixels."""
        mask = self.preview_masks(batch)
        observed = batch.observed.masked_fill(~mask, 0)
        draws = self.model.sample(observed, mask, 2, generator=torch.Generator(observed.device).manual_seed(0))
        rows = [
            Row("observed", batch.observed, mask=batch.mask),
            Row("input", observed, mask=mask),
            Row("a sample", draws[0]),
            Row("another", draws[1]),
        ]
        return {"imputations": rows}

    @torch.no_grad()
    def draw(self, folder: Path) -> dict[str, Path]:
        """Draw test images: truth, observed pixels, the flow's point estimate and mean, two samples."""
        model = self.model.eval()
        images = self.data.test
        batch = images.batch(torch.arange(min(10, len(images)), device=images.device))
        assert isinstance(batch, EvalBatch)
        mask, _ = self.evaluation_masks(images, batch)
        observed = batch.observed.masked_fill(~mask, 0)
        draws = model.sample(observed, mask, 2, generator=torch.Generator(images.device).manual_seed(0))
        rows = [
            Row("truth", batch.truth, mask=batch.truth_mask),
            Row("observed", observed, mask=mask),
            Row("latent zero", model.point_estimate(observed, mask)),
            Row("mean", model.mean(observed, mask, SAMPLES)),
            Row("a sample", draws[0]),
            Row("another", draws[1]),
        ]
        path = folder / "imputations.png"
        image_grid(rows, path=path)
        return {"imputations": path}
