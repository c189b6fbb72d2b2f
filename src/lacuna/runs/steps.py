"""Epochs, batches and steps of a run, from its recipe and the number of images, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lacuna.config.training_options import LIMIT
from lacuna.data.prepared import PreparedData
from lacuna.errors import LacunaError
from lacuna.runs.budget import source_of
from lacuna.runs.protocol import official_counts
from lacuna.runs.recipe import Recipe

EM = ("smfa.FitSMFA",)
"""Tasks that train by EM: one update from all images, instead of steps."""
FULL_BATCHES = ("misgan.TrainMisGAN", "pbigan.TrainPBiGAN")
"""Tasks that skip a last batch that is not full."""


@dataclass(frozen=True)
class Training:
    """The amount of training of a run.

    Args:
        epochs: their number; the largest possible one where ``early``.
        batches: batches of an epoch that are trained on; None: not known. A batch is one step, also with several
            optimisers.
        passes: whether an epoch is a pass of EM, which takes no steps.
        early: whether training may end before the last epoch.
    """

    epochs: int
    batches: int | None
    passes: bool = False
    early: bool = False

    @property
    def steps(self) -> int | None:
        """Steps of the whole training; 0 for EM, None: not known."""
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
    """The amount of training of runs; data that are not on this machine count as published.

    Args:
        root: the data folder.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = root
        self._counts: dict[str, Mapping[str, int]] = {}

    def __call__(self, recipe: Recipe) -> Training | None:
        """The amount of training of a run; None where it only fits or measures."""
        if recipe.measured or not recipe.training:
            return None
        data = recipe.config["data"]
        key = json.dumps(data, sort_keys=True)
        if key not in self._counts:
            self._counts[key] = stored_counts(data, self.root)
        return training(recipe, self._counts[key])


def training(recipe: Recipe, counts: Mapping[str, int]) -> Training:
    """The amount of training of a recipe that has a ``training``.

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
        batches = min(batches, spec.get(LIMIT) or batches)
    return Training(int(spec["epochs"]), batches, passes=task in EM, early=bool(spec.get("stop")))


def training_images(data: Mapping[str, Any], counts: Mapping[str, int]) -> int | None:
    """Number of training images of a recipe's ``data``, without validation images; None where not known.

    It is that of :class:`lacuna.data.module.IncompleteData`.

    Args:
        data: of the recipe.
        counts: images per stored split; empty: not known.
    """
    if "train" not in counts:
        return None
    images, validation = counts["train"], int(data.get("validation") or 0)
    if "validation" not in counts:
        official = official_counts(data).get("train", images)
        images -= validation if images >= official else round(validation * images / official)
    limit = data.get("train_images")
    return max(0, images if limit is None else min(images, int(limit)))


def stored_counts(data: Mapping[str, Any], root: Path | str) -> Mapping[str, int]:
    """Number of images per split of a recipe's ``data``: as prepared in ``root``, or as published; empty: not known."""
    try:
        folder = source_of({key: value for key, value in data.items() if key != "fingerprint"}).folder(root)
        if PreparedData.exists(folder):
            provenance = PreparedData(folder).provenance
            if provenance.fingerprint == data.get("fingerprint"):
                return provenance.counts
    except LacunaError:  # the data are damaged or gone
        pass
    return official_counts(data)
