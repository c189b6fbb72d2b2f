"""How much training a run is: epochs, batches, steps. Known from its recipe and the number of images, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lacuna.data.prepared import PreparedData
from lacuna.errors import LacunaError
from lacuna.runs.budget import source_of
from lacuna.runs.protocol import official_counts
from lacuna.runs.recipe import Recipe

EM = ("smfa.FitSMFA",)
"""Tasks that go through all images and then compute new parameters, instead of taking steps."""
FULL_BATCHES = ("misgan.TrainMisGAN", "pbigan.TrainPBiGAN")
"""Tasks that do not learn from a last batch that is not full."""


@dataclass(frozen=True)
class Training:
    """How a run trains.

    Args:
        epochs: how many; where ``early``, at most.
        batches: of an epoch that are learned from; None: not known. A batch is one step, also where several optimisers
            move on it.
        passes: whether an epoch is a pass of EM, which takes no steps.
        early: whether training may end before the last epoch.
    """

    epochs: int
    batches: int | None
    passes: bool = False
    early: bool = False

    @property
    def steps(self) -> int | None:
        """Of the whole training; 0 of EM, None: not known."""
        if self.passes:
            return 0
        return None if self.batches is None else self.epochs * self.batches

    def __str__(self) -> str:
        most = "at most " if self.early else ""
        if self.passes:
            return f"{most}{self.epochs} EM passes"
        epochs = f"{most}{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        return epochs if self.batches is None else f"{epochs} x {self.batches:,} batches = {self.steps:,} steps"


class Trainings:
    """How runs train, whether their data are on this machine or not (then by the published counts).

    Args:
        root: the data folder.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = root
        self._counts: dict[str, Mapping[str, int]] = {}

    def __call__(self, recipe: Recipe) -> Training | None:
        """How a run trains; None where it trains nothing: it is fitted at most, or measures."""
        if recipe.measured or not recipe.training:
            return None
        data = recipe.config["data"]
        key = json.dumps(data, sort_keys=True)
        if key not in self._counts:
            self._counts[key] = stored_counts(data, self.root)
        return training(recipe, self._counts[key])


def training(recipe: Recipe, counts: Mapping[str, int]) -> Training:
    """How a recipe with a ``training`` trains.

    Args:
        recipe: the recipe.
        counts: images per stored split; empty: not known.
    """
    spec, task = recipe.training, recipe.config["task"]["type"]
    images = training_images(recipe.config["data"], counts)
    batch = int(spec.get("batch_size", 1))
    batches = None
    if images is not None:
        batches = max(1, images // batch) if task in FULL_BATCHES else -(-images // batch)
    return Training(int(spec["epochs"]), batches, passes=task in EM, early=bool(spec.get("stop")))


def training_images(data: Mapping[str, Any], counts: Mapping[str, int]) -> int | None:
    """Training images of a recipe's ``data``, without those set aside: as :class:`lacuna.data.module.IncompleteData`.

    Args:
        data: of the recipe.
        counts: images per stored split; empty: not known, and nor is the answer.
    """
    if "train" not in counts:
        return None
    images, asked = counts["train"], int(data.get("validation") or 0)
    if "validation" not in counts:
        official = official_counts(data).get("train", images)
        images -= asked if images >= official else round(asked * images / official)
    limit = data.get("train_images")
    return max(0, images if limit is None else min(images, int(limit)))


def stored_counts(data: Mapping[str, Any], root: Path | str) -> Mapping[str, int]:
    """Images per split of a recipe's ``data``: as prepared in ``root``, otherwise as published; empty: not known."""
    try:
        folder = source_of({key: value for key, value in data.items() if key != "fingerprint"}).folder(root)
        if PreparedData.exists(folder):
            provenance = PreparedData(folder).provenance
            if provenance.fingerprint == data.get("fingerprint"):
                return provenance.counts
    except LacunaError:  # damaged, or a file that is no longer there
        pass
    return official_counts(data)
