"""Whether recovered images look like true ones to a net that knows complete images: FID and SCC."""

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


class Judges:
    """The feature net of a recipe and, where that classifies, the classifier of SCC.

    Args:
        config: the recipe.
        parts: with the feature net that was trained for it, if one was.
        data: whose true images are compared with.
        cache: folder for the statistics of the true images.
        batch_size: images a step.
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
        chooses = isinstance(trained, IncompleteClassifier) and data.classes is not None  # SCC is a matter of classes
        self.classifier = trained if chooses else None

    def session(self, images: IncompleteImages) -> Session:
        """Judge all images of a set, which must have truth."""
        return Session(self, images)


class Session:
    """Running FID and SCC of the recovered images of one set; nothing where a recipe has no feature net.

    ``fid`` is between them and their own truths. ``accuracy`` is that of the classifier on them; ``scc`` relates it to
    its accuracy on the truths (none where it gets no truth right).
    """

    def __init__(self, judges: Judges, images: IncompleteImages) -> None:
        self._fid: FID | None = None
        self._scc: SemanticConsistency | None = None
        features, classifier = judges.features, judges.classifier
        if features is not None:
            provenance, size = judges.data.provenance, judges.batch_size
            truths = reference_statistics(features, images, provenance, cache=judges.cache, batch_size=size)
            self._fid = FID(features, truths, "recovered images")
        if features is not None and classifier is not None:
            net = classifier.to(images.device).eval()
            self._scc = SemanticConsistency(lambda x: net(x, torch.ones_like(x[:, :1], dtype=torch.bool)))
            self._classifier = features.name

    def update(self, recovered: Tensor, batch: EvalBatch) -> None:
        """Add recovered images (B,C,H,W) in [0, 1]."""
        if self._fid is not None:
            self._fid.update(recovered)
        if self._scc is not None:
            assert batch.label is not None
            self._scc.update(recovered, batch.truth, batch.label)

    def compute(self) -> dict[str, Score]:
        """What was judged, each with its protocol."""
        found: dict[str, Score] = {}
        if self._fid is not None:
            found["fid"] = self._fid.compute()
        if self._scc is not None:
            judged = self._scc.compute()
            who = f"by {self._classifier}, {judged.images} images"
            found["accuracy"] = Score(judged.recovered, f"fraction of recovered images classified right {who}")
            if judged.value is not None:
                how = f"accuracy on recovered images over that on the true ones ({judged.true:.4f}), at most 1"
                found["scc"] = Score(judged.value, f"{how}; {who}")
        return found
