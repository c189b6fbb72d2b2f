"""The laws of every stem. A new stem is one line in STEMS (its other tests are in tests/layers/test_stem.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lacuna.densities.base import Density
from lacuna.imputers.base import Imputer
from lacuna.layers.stem import ImageStem, Stem
from lacuna.registry import build
from lacuna.tasks.common.models import IncompleteClassifier
from tests.dense import random_images, random_mask
from tests.laws.guard import assert_all_listed

SHAPE = (3, 9, 8)
DENSITY = {
    "type": "dmfa.DMFA",
    "components": 2,
    "factors": 2,
    "net": {"type": "density_net.FullyConvolutional", "encoder": [[4, 1]], "middle": [6, 1], "decoder": [[4, 1]]},
}


@dataclass(frozen=True)
class Case:
    """A stem and the laws that its definition does not imply.

    Args:
        spec: of the stem.
        imputer: of its imputer, where it has one.
        interior: for a complete image only the interior is the plain CNN's, because padding counts as missing.
        further: constant channels that a complete image is given besides its own.
        negative: features may be negative, by the published definition.
        linear: there is no ReLU at all.
    """

    spec: dict[str, Any]
    imputer: dict[str, Any] | None = None
    interior: bool = False
    further: int = 0
    negative: bool = False
    linear: bool = False


STEMS: dict[str, Case] = {
    "zero": Case({"type": "stem.ImputeStem"}, {"type": "simple.Zero"}),
    "mean": Case({"type": "stem.ImputeStem"}, {"type": "simple.Mean"}),
    "knn": Case({"type": "stem.ImputeStem"}, {"type": "knn.KNN", "k": 3}),
    "knn, published": Case({"type": "stem.ImputeStem"}, {"type": "knn.KNN", "published": True}),
    "density mean": Case({"type": "stem.ImputeStem"}, {"type": "density_mean.DensityMean"}),
    "mask": Case({"type": "stem.MaskStem"}, further=1),
    "partial": Case({"type": "stem.PartialStem"}, interior=True),
    "partial, authors": Case({"type": "stem.PartialStem", "relu": False}, interior=True, negative=True, linear=True),
    "misconv": Case({"type": "stem.MisConvStem"}),
    "misconv, paper": Case({"type": "stem.MisConvStem", "formula": "paper"}, negative=True),
    "misconv, authors": Case({"type": "stem.MisConvStem", "formula": "authors"}, negative=True),
}


def new(name: str) -> Stem:
    case = STEMS[name]
    torch.manual_seed(1)
    density: Density = build("density", DENSITY, shape=SHAPE).eval()
    offer: dict[str, Any] = {"channels": SHAPE[0], "density": density}
    if case.imputer:
        offer["imputer"] = build("imputer", case.imputer, offer={"density": density})
    stem: Stem = build("stem", {"filters": 6, **case.spec}, offer=offer)
    if isinstance(stem.frozen, Imputer):
        donors_mask = random_mask(20, SHAPE, seed=8)
        complete = stem.frozen.complete_donors
        stem.frozen.fit(
            random_images(20, SHAPE, seed=7).float(), torch.ones_like(donors_mask) if complete else donors_mask
        )
    stem.freeze()
    return stem.eval()


each = pytest.mark.parametrize("name", STEMS)


def test_every_stem_is_here():
    # a stem without a layer is not among those that the laws of layers are about
    assert_all_listed(Stem, [*(new(name) for name in STEMS), ImageStem()], "STEMS in tests/laws/test_stems.py")


def test_the_image_stem_returns_the_image():
    x, mask = random_images(4, SHAPE).float(), random_mask(4, SHAPE)
    observed = torch.where(mask, x, 0)
    stem = ImageStem()
    assert stem(observed, mask) is observed and not list(stem.parameters()) and not stem.cacheable


@each
def test_a_complete_image_is_convolved_as_usual(name):
    stem, case = new(name), STEMS[name]
    x = random_images(4, SHAPE).float()
    found = stem(x, torch.ones(4, 1, *SHAPE[1:], dtype=torch.bool))
    whole = torch.cat([x, torch.ones(4, case.further, *SHAPE[1:])], 1)
    plain = functional.conv2d(whole, stem.conv.weight, stem.conv.bias, padding=1)
    if case.interior:
        found, plain = found[..., 1:-1, 1:-1], plain[..., 1:-1, 1:-1]
    torch.testing.assert_close(found, plain if case.linear else plain.relu())


def incomplete() -> tuple[Tensor, Tensor]:
    x, mask = random_images(5, SHAPE, seed=3).float(), random_mask(5, SHAPE, seed=4)
    return torch.where(mask, x, 0), mask


@each
def test_features_are_finite_and_never_negative(name):
    features = new(name)(*incomplete())
    assert features.shape == (5, 6, *SHAPE[1:])
    assert features.isfinite().all() and (features > 0).any()
    assert STEMS[name].negative or (features >= 0).all()


@each
@pytest.mark.parametrize("value", [0.5, 7.0, float("nan"), float("inf")])
def test_missing_values_are_irrelevant(name, value):
    """Through the model, which erases missing values first."""
    model = IncompleteClassifier(new(name), torch.nn.Identity())
    x, mask = incomplete()
    dirty, wanted = torch.where(mask, x, value), model(x, mask)
    assert torch.equal(model(dirty, mask), wanted)
    assert torch.equal(model(dirty, mask, model.stem.encode(x, mask)), wanted)
    if isinstance(model.stem.frozen, Imputer):  # public, so it erases them itself
        assert torch.equal(model.stem.encode(dirty, mask), model.stem.encode(x, mask))
