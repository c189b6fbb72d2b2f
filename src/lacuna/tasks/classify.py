"""Train a classifier on incomplete images (MisConv, section 4, tables 1, 2, 6, 8 and 9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lacuna.data.hashing import permutation
from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.imputers.base import Imputer
from lacuna.layers.stem import ImputeStem, Representation
from lacuna.mfa import MFA
from lacuna.report.pictures import Row, first_layer_grid, image_grid
from lacuna.tasks.base import Task
from lacuna.tasks.cache import FrontCache
from lacuna.tasks.models import IncompleteClassifier, build_classifier


class Classify(Task):
    """Cross entropy on incomplete training images; accuracy on incomplete and on complete test images."""

    part = "net"
    model: IncompleteClassifier

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # what the frozen front says of images that are seen in every epoch
        self._caches: dict[int, FrontCache] = {}

    def build(self) -> IncompleteClassifier:
        """The stem and body of the recipe, on its trained parts."""
        return build_classifier(self.content, self.sizes, self.parts)

    def prepare(self) -> None:
        """Fit the imputer where it needs images; compute what the frozen front says of the images of every epoch."""
        stem = self.model.stem
        if isinstance(stem.front, Imputer) and not stem.front.fitted:
            self._fit_imputer(stem.front)
        if stem.cacheable:
            left = self.cache_bytes
            for images in [self.data.train, *([self.data.validation] if self.data.has_validation else [])]:
                cache = FrontCache(images, stem.represent, left, self.eval_batch_size, self.cache_file(images))
                if cache.filled:
                    self._caches[id(images)] = cache
                    left -= cache.bytes

    def _representation(self, images: IncompleteImages, batch: Batch) -> Representation:
        """What the front says of a batch, if that is known already."""
        if images.whole and isinstance(self.model.stem, ImputeStem):
            return batch.observed  # there is nothing to fill
        cache = self._caches.get(id(images))
        return None if cache is None else cache(batch)

    def _fit_imputer(self, imputer: Imputer) -> None:
        images = self.data.complete("train") if imputer.complete_donors else self.data.train
        n = len(images) if imputer.donors is None else min(imputer.donors, len(images))
        if not n:
            return
        rows = torch.from_numpy(permutation(len(images), "donors", self.content["seed"])[:n].copy())
        batch = images.batch(rows)
        imputer.fit(batch.observed, batch.mask)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Cross entropy."""
        logits = self.model(batch.observed, batch.mask, self._representation(self.data.train, batch))
        assert batch.label is not None
        return functional.cross_entropy(logits, batch.label), len(batch)

    @torch.no_grad()
    def evaluate(self, images: IncompleteImages) -> dict[str, float]:
        """``accuracy`` (fraction) and ``loss`` (nats per image)."""
        model = self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for batch in self.batches(images):
            logits = model(batch.observed, batch.mask, self._representation(images, batch)).float()
            assert batch.label is not None
            right = (logits.argmax(1) == batch.label).sum()
            sums += torch.stack([right, functional.cross_entropy(logits, batch.label, reduction="sum")])
        model.train(self.training)
        right, loss = (sums / len(images)).tolist()
        return {"accuracy": right, "loss": loss}

    def results(self) -> dict[str, float]:
        """Test metrics: ``test`` on incomplete images (table 1), ``complete`` on complete ones (table 2)."""
        incomplete, complete = self.evaluate(self.data.test), self.evaluate(self.data.complete("test"))
        found = {f"test/{k}": v for k, v in incomplete.items()} | {f"complete/{k}": v for k, v in complete.items()}
        if self.data.has_validation:
            found |= {f"validation/{k}": v for k, v in self.evaluate(self.data.validation).items()}
        return found

    @torch.no_grad()
    def draw(self, folder: Path) -> dict[str, Path]:
        """What the first layer is given and what it makes of a test image (figure 3)."""
        stem = self.model.stem.eval()
        images = self.data.test
        batch = images.batch(torch.arange(min(10, len(images)), device=images.device))
        assert isinstance(batch, EvalBatch)
        representation = stem.represent(batch.observed, batch.mask)
        features = stem(batch.observed, batch.mask, representation)
        paths = {"first_layer": folder / "first_layer.png"}
        first_layer_grid(features[0].float(), path=paths["first_layer"])
        if representation is not None:
            filled = representation.expectation() if isinstance(representation, MFA) else representation
            rows = [
                Row("truth", batch.truth, mask=batch.known),
                Row("observed", batch.observed, mask=batch.mask),
                Row("imputed", torch.where(batch.mask, batch.observed, filled.clamp(0, 1))),
            ]
            if isinstance(representation, MFA):
                spread = representation.pin(batch.observed, batch.mask).variance()
                rows.append(Row("std. deviation", spread.mean(1, keepdim=True).sqrt(), heat=True))
            paths["imputations"] = folder / "imputations.png"
            image_grid(rows, path=paths["imputations"])
        return paths
