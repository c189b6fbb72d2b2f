"""Train a classifier on incomplete images (MisConv, section 4, tables 1, 2, 6, 8, 9).

The labels of the data are either classes or binary attributes (:mod:`lacuna.tasks.common.classification_scores`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.drawing.pictures import Row, first_layer_grid, image_grid
from lacuna.mfa import MFA, widened
from lacuna.tasks.common.classification_scores import cross_entropy, scores
from lacuna.tasks.common.example_images import write_example_images
from lacuna.tasks.common.first_layer import write_first_layer
from lacuna.tasks.common.frozen_stem import StemTask
from lacuna.tasks.common.models import IncompleteClassifier, build_classifier


class TrainClassifier(StemTask):
    """Cross entropy on incomplete training images; accuracy on incomplete and on complete test images.

    For attributes instead of classes, cross entropy and accuracy are averaged over all attributes.
    """

    model: IncompleteClassifier

    def build(self) -> IncompleteClassifier:
        """The stem and body of the recipe, with its prerequisites."""
        return build_classifier(self.config, self.sizes, self.prerequisites)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Cross entropy in nats per image (for attributes, averaged over them), and the number of images."""
        logits = self.model(batch.observed, batch.mask, self.encoding(self.train_images, batch))
        assert batch.label is not None
        return cross_entropy(logits, batch.label), len(batch)

    @torch.no_grad()
    def evaluate(self, images: IncompleteImages) -> dict[str, float]:
        """``accuracy`` (fraction) and ``loss`` (nats per image); for attributes also ``balanced_accuracy``."""
        model = self.model.eval()
        found = scores(self.sizes.attributes, self.device)
        for batch in self.batches(images):
            logits = widened(model(batch.observed, batch.mask, self.encoding(images, batch)))
            assert batch.label is not None
            found.update(logits, batch.label)
        model.train(self.training)
        return found.compute()

    def results(self) -> dict[str, float]:
        """Test metrics: ``test`` on incomplete images (table 1), ``complete`` on complete ones (table 2)."""
        incomplete, complete = self.evaluate(self.data.test), self.evaluate(self.data.complete("test"))
        found = {f"test/{k}": v for k, v in incomplete.items()} | {f"complete/{k}": v for k, v in complete.items()}
        if self.data.has_validation:
            found |= {f"validation/{k}": v for k, v in self.evaluate(self.data.validation).items()}
        return found

    @torch.no_grad()
    def draw(self, folder: Path) -> dict[str, Path]:
        """Inputs and outputs of the first layer for test images (figure 3)."""
        stem = self.model.stem.eval()
        images = self.data.test
        batch = images.batch(torch.arange(min(10, len(images)), device=images.device))
        assert isinstance(batch, EvalBatch)
        encoding = stem.encode(batch.observed, batch.mask)
        features = stem(batch.observed, batch.mask, encoding)
        paths = {"first_layer": folder / "first_layer.png"}
        first_layer_grid(features[0].float(), path=paths["first_layer"])
        write_first_layer(folder / "first_layer.npz", stem, batch, encoding, features)
        if encoding is not None:
            filled = encoding.expectation() if isinstance(encoding, MFA) else encoding
            imputed, deviation = torch.where(batch.mask, batch.observed, filled.clamp(0, 1)), None
            rows = [
                Row("truth", batch.truth, mask=batch.truth_mask),
                Row("observed", batch.observed, mask=batch.mask),
                Row("imputed", imputed),
            ]
            if isinstance(encoding, MFA):
                variance = encoding.pin(batch.observed, batch.mask).variance()
                deviation = variance.mean(1, keepdim=True).sqrt()
                rows.append(Row("std. deviation", deviation, heat=True))
            write_example_images(folder, batch, imputed, deviation)
            paths["imputations"] = folder / "imputations.png"
            image_grid(rows, path=paths["imputations"])
        return paths
