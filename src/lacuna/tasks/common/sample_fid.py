"""FID of what a generative model draws, after an epoch and at its best; survives a kill."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.data.hashing import key
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.metrics.facenet import facenet
from lacuna.metrics.features import Features, inception
from lacuna.metrics.fid import FID, Score, Statistics, reference_statistics
from lacuna.runs.recipe import Recipe

PUBLISHED: dict[str, Callable[[str | None], Features]] = {"inception": inception, "facenet": facenet}
"""Feature nets with published weights, which no run trains -> what opens them."""
NETS = ("classify", "generate")
"""Tasks whose models have features of complete images."""

Sampler = Callable[[int, torch.Generator], Tensor]
"""(n, generator) -> n images in [0, 1]."""


class SampleFID(nn.Module):
    """FID of samples, one for every test image, from the complete test images.

    The samples are drawn from the same codes every time. The lowest value of a training is kept, as the papers report
    it, and is in its checkpoints; it is chosen on the very images it is measured on.

    Args:
        features: the feature net.
        data: whose test images are compared with, nothing hidden.
        seed: of the samples.
        cache: folder for the statistics of the test images.
        batch_size: images a step.
    """

    def __init__(
        self, features: Features, data: IncompleteData, seed: int, cache: Path | None = None, batch_size: int = 250
    ) -> None:
        super().__init__()
        self.features, self.data, self.seed, self.batch_size = features, data, seed, batch_size
        self.cache = None if cache is None else cache / "fid"
        self.lowest = math.inf

    @cached_property
    def reference(self) -> Statistics:
        """Of the complete test images."""
        images = self.data.complete("test")
        provenance = self.data.provenance
        return reference_statistics(self.features, images, provenance, cache=self.cache, batch_size=self.batch_size)

    @torch.no_grad()
    def measure(self, sample: Sampler) -> Score:
        """FID of as many samples as there are test images; the lowest so far is kept."""
        generator = torch.Generator(self.data.device).manual_seed(key("samples", self.seed))
        fid = FID(self.features, self.reference, "samples")
        for start in range(0, self.reference.n, self.batch_size):
            fid.update(sample(min(self.batch_size, self.reference.n - start), generator))
        score = fid.compute()
        if score.value < self.lowest:
            self.lowest = score.value
        return score

    def training_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"lowest": self.lowest}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`training_state` gave."""
        self.lowest = state["lowest"]


def feature_net(recipe: Recipe, trained: nn.Module | None) -> Features | None:
    """The feature net of a recipe: a published one, or the model of the run it needs; None where it has none.

    Any model with a method ``features`` serves, hence every classifier (what stands before its classes) and
    auto-encoder (its code): ``features.run`` says which task, net and stem train it.

    Raises:
        LacunaError: a published net cannot be had.
    """
    spec = recipe.config.get("features")
    if spec is None:
        return None
    if spec["name"] in PUBLISHED:
        return PUBLISHED[spec["name"]](spec.get("weights"))
    assert trained is not None
    layer = "code" if recipe.prerequisites["features"].task == "generate" else "features"
    return Features(trained, name=f"{spec['name']} of {recipe.prerequisites['features'].name}", layer=layer)


def check_features(recipe: Recipe, data: IncompleteData) -> None:
    """Whether FID can be computed at all, said before anything is trained.

    Raises:
        LacunaError: no feature net, or no complete images to compare with.
    """
    spec = recipe.config.get("features")
    if spec is None:
        return
    name = spec["name"]
    observed = data.prepared.split("test").observed
    if observed is not None and not observed.all():
        raise LacunaError(f"features={name}: FID needs complete test images, and these lack pixels: features=none.")
    if len(data.positions("test")[1]) < 2:
        raise LacunaError("FID needs at least 2 test images: raise data.test_images, or choose features=none.")
    if name in PUBLISHED:
        if data.shape[0] not in (1, 3):
            raise LacunaError(f"features={name} takes grey or colour images, not {data.shape[0]} channels.")
        PUBLISHED[name](spec.get("weights"))
    elif "features" not in recipe.prerequisites:
        known = " or ".join(PUBLISHED)
        raise LacunaError(f"features={name} says neither prerequisites: [features] nor name: {known}: choose another.")
    elif recipe.prerequisites["features"].task not in NETS:
        raise LacunaError(f"features.run.task must be one of {', '.join(NETS)}: other models have no features.")


def check_labels(recipe: Recipe, data: IncompleteData) -> None:
    """Whether the data have the labels that the feature net learns from, said before that net is built.

    Raises:
        LacunaError: they have none; the sentence names a feature net that needs none.
    """
    learner = recipe.prerequisites.get("features")
    if learner is None or learner.task != "classify" or data.classes is not None or data.attributes is not None:
        return
    others = "choose features=autoencoder32 (or autoencoder for images of 64x64), which needs none"
    if data.source.attributes is not None:  # the set as it is published has some
        again = f"`python scripts/prepare.py {data.source.set_name} --root {data.root} --force`"
        others += f", or give the data their attributes with {again}"
    name = recipe.config["features"]["name"]
    raise LacunaError(
        f"features={name} learns from labels and the prepared images of {data.provenance.name} have none: {others}."
    )
