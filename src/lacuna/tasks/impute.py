"""Impute missing pixels and evaluate the imputations (PRFlow, section 4, tables 1 to 3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.data.masks import NoMask
from lacuna.data.module import IncompleteData
from lacuna.drawing.pictures import Row, image_grid
from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer
from lacuna.metrics.fid import Score
from lacuna.runs.recipe import Recipe
from lacuna.tasks.base import Task
from lacuna.tasks.common.example_images import EXAMPLES, write_example_images
from lacuna.tasks.common.frozen_stem import fit_imputer
from lacuna.tasks.common.held_out import ImputationMetrics
from lacuna.tasks.common.models import build_imputer
from lacuna.tasks.common.realism import RealismMetrics
from lacuna.tasks.common.sample_fid import check_features

DRAWN = 10
ERRORS = (0.0, 0.25)
"""Ends of the colour scale of squared errors, the same in every run: the brightest colour is an error >= 1/2."""


class ImputeTask(Task):
    """Base class: evaluates an :class:`~lacuna.imputers.base.Imputer` that a subclass trains or fits."""

    component = "imputer"
    model: Imputer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.realism = RealismMetrics(self.config, self.prerequisites, self.data, self.cache, self.eval_batch_size)

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Check that there are missing pixels with a truth, and that the feature net fits the data."""
        if isinstance(data.scheme, NoMask):
            raise LacunaError(
                "task=impute is evaluated on the pixels that the mask scheme removes, and mask=none removes none: "
                "choose mask=bernoulli, also for images with missing pixels of their own."
            )
        check_features(recipe, data)

    def build(self) -> Imputer:
        """The imputer of the recipe, with its prerequisites."""
        return build_imputer(self.config, self.sizes, self.prerequisites)

    def impute(self, batch: Batch) -> Tensor:
        """Imputations (B,C,H,W) in [0, 1] with unchanged observed pixels; without gradient."""
        return self.model.impute(batch.observed, batch.mask)

    # ------------------------------------------------------------------ evaluation

    def evaluate(self, images: IncompleteImages) -> dict[str, float]:
        """Errors of the imputed values; with a feature net also FID and, if it is a classifier, SCC.

        Returns:
            ``rmse`` and others of :class:`lacuna.tasks.common.held_out.ImputationMetrics`; with a feature net those of
            :class:`lacuna.tasks.common.realism.RunningRealism`.
        """
        errors, realism = self._evaluate(images, semantics=True)
        return errors | {name: score.value for name, score in realism.items()}

    def validate(self) -> dict[str, float]:
        """Only the errors of the imputed values, which are cheap to compute."""
        return self._evaluate(self.data.validation, semantics=False)[0]

    def results(self) -> dict[str, float]:
        """Metrics of the test images."""
        errors, realism = self._evaluate(self.data.test, semantics=True)
        self.protocols = {f"test/{name}": score.protocol for name, score in realism.items()}
        return {f"test/{name}": value for name, value in errors.items()} | {
            f"test/{name}": score.value for name, score in realism.items()
        }

    @torch.no_grad()
    def _evaluate(
        self, images: IncompleteImages, *, semantics: bool, impute: Callable[[Batch], Tensor] | None = None
    ) -> tuple[dict[str, float], dict[str, Score]]:
        impute, model = impute or self.impute, self.model.eval()
        found = ImputationMetrics(self.sizes.shape)
        session = self.realism.start(images) if semantics else None
        for batch in self.batches(images):
            imputed = impute(batch)
            found.update(imputed, batch, ~batch.mask & batch.truth_mask)
            if session is not None:
                session.update(imputed, batch)
        model.train(self.training)
        return found.compute(), {} if session is None else session.compute()

    def preview(self, batch: Batch) -> dict[str, list[Row]]:
        """Images and their imputations."""
        rows = [Row("observed", batch.observed, mask=batch.mask), Row("imputed", self.impute(batch))]
        return {"imputations": rows}

    @torch.no_grad()
    def draw(self, folder: Path) -> dict[str, Path]:
        """Test images, their observed pixels, imputations and squared errors; more images as arrays."""
        model = self.model.eval()
        images = self.data.test
        batch = images.batch(torch.arange(min(EXAMPLES, len(images)), device=images.device))
        assert isinstance(batch, EvalBatch)
        imputed = self.impute(batch)
        model.train(self.training)
        errors = torch.where(batch.truth_mask, imputed - batch.truth, 0).square().mean(1, keepdim=True)
        rows = [
            Row("truth", batch.truth[:DRAWN], mask=batch.truth_mask[:DRAWN]),
            Row("observed", batch.observed[:DRAWN], mask=batch.mask[:DRAWN]),
            Row("imputed", imputed[:DRAWN]),
            Row("squared error", errors[:DRAWN], heat=True, limits=ERRORS),
        ]
        write_example_images(folder, batch, imputed)
        path = folder / "imputations.png"
        image_grid(rows, path=path)
        return {"imputations": path}


class Impute(ImputeTask):
    """An imputer without training; at most it is fitted once to training images."""

    several_devices = False

    def prepare(self) -> None:
        """Fit the imputer if it needs images."""
        if not self.model.fitted:
            fit_imputer(self.model, self.data, self.config["seed"])
