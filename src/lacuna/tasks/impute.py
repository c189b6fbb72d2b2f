"""Complete incomplete images and judge what was put in their holes (PRFlow, section 4, tables 1 to 3)."""

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
from lacuna.tasks.common.example_images import EXAMPLES, write_examples
from lacuna.tasks.common.frozen_stem import fit_imputer
from lacuna.tasks.common.held_out import JudgedImputations
from lacuna.tasks.common.models import build_imputer
from lacuna.tasks.common.realism import RealismMetrics
from lacuna.tasks.common.sample_fid import check_features

DRAWN = 10
ERRORS = (0.0, 0.25)
"""Ends of the scale of squared errors, the same in every run's picture: bright is off by half the range, or more."""


class ImputeTask(Task):
    """Makes an :class:`~lacuna.imputers.base.Imputer` and judges it; how it is made is a subclass's matter."""

    component = "imputer"
    model: Imputer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.realism = RealismMetrics(self.config, self.parts, self.data, self.cache, self.eval_batch_size)

    @classmethod
    def check(cls, recipe: Recipe, data: IncompleteData) -> None:
        """Whether there is something to fill whose truth is known, and whether it can be judged."""
        if isinstance(data.scheme, NoMask):
            raise LacunaError(
                "task=impute is judged on what the mask hides, and mask=none hides nothing: choose mask=bernoulli, "
                "also for images that have holes of their own."
            )
        check_features(recipe, data)

    def build(self) -> Imputer:
        """The imputer of the recipe, on its trained parts."""
        return build_imputer(self.config, self.sizes, self.parts)

    def impute(self, batch: Batch) -> Tensor:
        """Completed images (B,C,H,W) in [0, 1], observed pixels as they were; without gradient."""
        return self.model.impute(batch.observed, batch.mask)

    # ------------------------------------------------------------------ judging

    def evaluate(self, images: IncompleteImages) -> dict[str, float]:
        """Errors of the imputed values, and whether the recovered images look and read like true ones.

        Returns:
            ``rmse`` and others of :class:`lacuna.tasks.common.held_out.JudgedImputations`; with a feature net those of
            :class:`lacuna.tasks.common.realism.RunningRealism`.
        """
        errors, seen = self._judge(images, semantics=True)
        return errors | {name: score.value for name, score in seen.items()}

    def validate(self) -> dict[str, float]:
        """Errors of the imputed values alone, which cost little."""
        return self._judge(self.data.validation, semantics=False)[0]

    def results(self) -> dict[str, float]:
        """Metrics of the test images."""
        errors, seen = self._judge(self.data.test, semantics=True)
        self.protocols = {f"test/{name}": score.protocol for name, score in seen.items()}
        return {f"test/{name}": value for name, value in errors.items()} | {
            f"test/{name}": score.value for name, score in seen.items()
        }

    @torch.no_grad()
    def _judge(
        self, images: IncompleteImages, *, semantics: bool, impute: Callable[[Batch], Tensor] | None = None
    ) -> tuple[dict[str, float], dict[str, Score]]:
        impute, model = impute or self.impute, self.model.eval()
        found = JudgedImputations(self.sizes.shape)
        session = self.realism.start(images) if semantics else None
        for batch in self.batches(images):
            recovered = impute(batch)
            found.update(recovered, batch, ~batch.mask & batch.known)
            if session is not None:
                session.update(recovered, batch)
        model.train(self.training)
        return found.compute(), {} if session is None else session.compute()

    @torch.no_grad()
    def draw(self, folder: Path) -> dict[str, Path]:
        """Test images, their holes, what was made of them, and the squared error; more of them as numbers."""
        model = self.model.eval()
        images = self.data.test
        batch = images.batch(torch.arange(min(EXAMPLES, len(images)), device=images.device))
        assert isinstance(batch, EvalBatch)
        recovered = self.impute(batch)
        model.train(self.training)
        errors = torch.where(batch.known, recovered - batch.truth, 0).square().mean(1, keepdim=True)
        rows = [
            Row("truth", batch.truth[:DRAWN], mask=batch.known[:DRAWN]),
            Row("observed", batch.observed[:DRAWN], mask=batch.mask[:DRAWN]),
            Row("imputed", recovered[:DRAWN]),
            Row("squared error", errors[:DRAWN], heat=True, limits=ERRORS),
        ]
        write_examples(folder, batch, recovered)
        path = folder / "imputations.png"
        image_grid(rows, path=path)
        return {"imputations": path}


class Impute(ImputeTask):
    """An imputer without training: it is shown training images at most, once."""

    several_devices = False

    def prepare(self) -> None:
        """Fit the imputer where it needs images."""
        if not self.model.fitted:
            fit_imputer(self.model, self.data, self.config["seed"])
