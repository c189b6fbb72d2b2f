"""FID and SCC of imputed images: do they look real to a network trained on complete images?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.data.incomplete import EvalBatch, IncompleteImages
from lacuna.data.module import IncompleteData
from lacuna.metrics.features import Features
from lacuna.metrics.fid import FID, Score, reference_statistics
from lacuna.metrics.semantic import SemanticConsistency
from lacuna.runs.recipe import Recipe
from lacuna.tasks.common.models import IncompleteClassifier
from lacuna.tasks.common.sample_fid import feature_net


class RealismMetrics:
    """The feature net of a recipe for FID and, if it is a classifier, the classifier for SCC.

    Args:
        config: the recipe.
        parts: models of the recipe's prerequisites; ``features`` is the trained feature net, if there is one.
        data: its complete images are the reference.
        cache: folder for the statistics of the complete images; None: they are not stored.
        batch_size: images processed at once.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        parts: Mapping[str, nn.Module],
        data: IncompleteData,
        cache: Path | None = None,
        batch_size: int = 250,
    ) -> None:
        self.data, self.batch_size = data, batch_size
        self.cache = None if cache is None else cache / "fid"
        trained = parts.get("features")
        self.features: Features | None = feature_net(Recipe(config), trained)
        classifies = isinstance(trained, IncompleteClassifier) and data.classes is not None  # not for attributes
        self.classifier = trained if classifies else None

    def start(self, images: IncompleteImages) -> RunningRealism:
        """Begin the metrics of all images of a set, whose truth must be known."""
        return RunningRealism(self, images)


class RunningRealism:
    """Running FID and SCC of the imputed images of one set; empty if the recipe has no feature net.

    ``fid`` is between the imputed images and their true images, ``accuracy`` the classifier's on imputed images, and
    ``scc`` its ratio to the accuracy on the true images (absent if that is 0).
    """

    def __init__(self, metrics: RealismMetrics, images: IncompleteImages) -> None:
        self._fid: FID | None = None
        self._scc: SemanticConsistency | None = None
        features, classifier = metrics.features, metrics.classifier
        if features is not None:
            provenance, size = metrics.data.provenance, metrics.batch_size
            reference = reference_statistics(features, images, provenance, cache=metrics.cache, batch_size=size)
            self._fid = FID(features, reference, "recovered images")
        if features is not None and classifier is not None:
            net = classifier.to(images.device).eval()
            self._scc = SemanticConsistency(lambda x: net(x, torch.ones_like(x[:, :1], dtype=torch.bool)))
            self._classifier = features.name

    def update(self, imputed: Tensor, batch: EvalBatch) -> None:
        """Add imputed images (B,C,H,W) in [0, 1] of a batch."""
        if self._fid is not None:
            self._fid.update(imputed)
        if self._scc is not None:
            assert batch.label is not None
            self._scc.update(imputed, batch.truth, batch.label)

    def compute(self) -> dict[str, Score]:
        """The metrics, each with its protocol."""
        found: dict[str, Score] = {}
        if self._fid is not None:
            found["fid"] = self._fid.compute()
        if self._scc is not None:
            scc = self._scc.compute()
            who = f"by {self._classifier}, {scc.images} images"
            found["accuracy"] = Score(scc.recovered, f"fraction of recovered images classified right {who}")
            if scc.value is not None:
                how = f"accuracy on recovered images over that on the true ones ({scc.true:.4f}), at most 1"
                found["scc"] = Score(scc.value, f"{how}; {who}")
        return found
