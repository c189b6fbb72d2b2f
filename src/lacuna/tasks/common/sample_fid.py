"""FID of a generative model's samples during training, and the feature nets that FID uses."""

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
from lacuna.program import command_text
from lacuna.registry import build
from lacuna.runs.recipe import Recipe

PUBLISHED: dict[str, Callable[[str | None], Features]] = {"inception": inception, "facenet": facenet}
"""Feature nets with published weights, which no run trains: name -> function of the weights' file (or None)."""
NETS = ("classify", "generate")
"""Tasks whose models can serve as feature nets."""

Sampler = Callable[[int, torch.Generator], Tensor]
"""(n, generator) -> n images in [0, 1]."""


class SampleFID(nn.Module):
    """FID between the complete test images and as many samples.

    The samples are drawn from the same codes every time. The lowest value of a training, which the papers report, is
    kept in its checkpoints. It is optimistic, being selected on the images on which it is measured.

    Args:
        features: the feature net.
        data: its complete test images are the reference.
        seed: of the samples.
        cache: folder for the statistics of the test images; None: they are not stored.
        batch_size: images processed at once.
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
        """Feature statistics of the complete test images."""
        images = self.data.complete("test")
        provenance = self.data.provenance
        return reference_statistics(self.features, images, provenance, cache=self.cache, batch_size=self.batch_size)

    @torch.no_grad()
    def measure(self, sample: Sampler) -> Score:
        """The FID of as many samples as there are test images; also updates :attr:`lowest`."""
        generator = torch.Generator(self.data.device).manual_seed(key("samples", self.seed))
        fid = FID(self.features, self.reference, "samples")
        for start in range(0, self.reference.n, self.batch_size):
            fid.update(sample(min(self.batch_size, self.reference.n - start), generator))
        score = fid.compute()
        if score.value < self.lowest:
            self.lowest = score.value
        return score

    def training_state(self) -> dict[str, Any]:
        """The state that a checkpoint keeps."""
        return {"lowest": self.lowest}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""
        self.lowest = state["lowest"]


def feature_net(recipe: Recipe, trained: nn.Module | None) -> Features | None:
    """The feature net of a recipe: a published one, one from outside, or the model of its prerequisite; None without.

    A classifier yields the features before its last layer, an auto-encoder its code; ``features.run`` says which task,
    net and stem train it. One from outside has a ``type``: a module, images (B,C,H,W) in [0, 1] -> (B,d), with its
    weights.

    Raises:
        LacunaError: a published net is not available.
    """
    spec = recipe.config.get("features")
    if spec is None:
        return None
    if spec["name"] in PUBLISHED:
        return PUBLISHED[spec["name"]](spec.get("weights"))
    if "type" in spec:
        return Features(build("features", spec), name=spec["name"])
    assert trained is not None
    layer = "code" if recipe.prerequisites["features"].task == "generate" else "features"
    return Features(trained, name=f"{spec['name']} of {recipe.prerequisites['features'].name}", layer=layer)


def check_features(recipe: Recipe, data: IncompleteData) -> None:
    """Check, before anything is trained, that FID can be computed.

    Raises:
        LacunaError: the feature net is not available or unsuitable, or there are no complete test images.
    """
    spec = recipe.config.get("features")
    if spec is None:
        return
    name = spec["name"]
    observed = data.prepared.split("test").observed
    if observed is not None and not observed.all():
        raise LacunaError(
            f"features={name}: FID needs complete test images, and these have missing pixels: choose features=none."
        )
    if len(data.positions("test")[1]) < 2:
        raise LacunaError("FID needs at least 2 test images: raise data.test_images, or choose features=none.")
    if name in PUBLISHED:
        if data.shape[0] not in (1, 3):
            raise LacunaError(f"features={name} takes grey or colour images, not {data.shape[0]} channels.")
        PUBLISHED[name](spec.get("weights"))
    elif "type" in spec:
        build("features", spec)
    elif "features" not in recipe.prerequisites:
        names = " or ".join(PUBLISHED)
        raise LacunaError(
            f"features={name} has neither prerequisites: [features] nor a type nor the name {names}: choose another."
        )
    elif recipe.prerequisites["features"].task not in NETS:
        raise LacunaError(
            f"features.run.task must be one of {', '.join(NETS)}: the models of other tasks have no features."
        )


def check_labels(recipe: Recipe, data: IncompleteData) -> None:
    """Check, before the feature net is built, that the data have the labels on which it is trained.

    Raises:
        LacunaError: they have none; the message names a feature net that needs none.
    """
    learner = recipe.prerequisites.get("features")
    if learner is None or learner.task != "classify" or data.classes is not None or data.attributes is not None:
        return
    others = "choose features=autoencoder32 (or autoencoder for images of 64x64), which needs no labels"
    if data.source.attributes is not None:  # the published data set has attributes, the prepared copy lacks them
        again = f"`{command_text('prepare')} {data.source.set_name} --root {data.root} --force`"
        others += f", or give the data their attributes with {again}"
    name = recipe.config["features"]["name"]
    raise LacunaError(
        f"features={name} is trained on labels, and the prepared images of {data.provenance.name} have none: {others}."
    )
