"""The laws of every stem. A new stem is one line in STEMS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lacuna.densities.base import Density
from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer
from lacuna.imputers.linear import Linear
from lacuna.imputers.simple import Zero
from lacuna.layers.stem import ImageStem, ImputeStem, MaskStem, MisConvStem, PartialStem, Stem
from lacuna.registry import build
from lacuna.tasks.common.models import IncompleteClassifier, Sizes, build_classifier
from tests.dense import random_images, random_mask

SHAPE = (2, 8, 7)
SIZES = Sizes(SHAPE, 5, mask_channels=1)
NET = {"type": "classifier.Classifier", "stages": [[4, 1]], "hidden": 6}
DENSITY = {
    "type": "dmfa.DMFA",
    "components": 2,
    "factors": 2,
    "net": {"type": "density_net.FullyConvolutional", "encoder": [[4, 1]], "middle": [6, 1], "decoder": [[4, 1]]},
}

# name -> spec
STEMS: dict[str, dict[str, Any]] = {
    "zero": {"type": "stem.ImputeStem", "imputer": {"type": "simple.Zero"}},
    "mean": {"type": "stem.ImputeStem", "imputer": {"type": "simple.Mean"}},
    "knn": {"type": "stem.ImputeStem", "imputer": {"type": "knn.KNN", "k": 3}},
    "mfa_mean": {"type": "stem.ImputeStem", "imputer": {"type": "density_mean.DensityMean"}},
    "mask": {"type": "stem.MaskStem"},
    "partial": {"type": "stem.PartialStem"},
    "misconv": {"type": "stem.MisConvStem"},
    "misconv, no padding": {"type": "stem.MisConvStem", "padding": 0, "kernel_size": 2},
    "misconv, paper": {"type": "stem.MisConvStem", "formula": "paper"},
    "misconv, authors": {"type": "stem.MisConvStem", "formula": "authors"},
    "partial, authors": {"type": "stem.PartialStem", "relu": False},
}
NEGATIVE = {"misconv, paper", "misconv, authors", "partial, authors"}  # by their published definition


def density() -> Density:
    torch.manual_seed(1)
    made: Density = build("density", DENSITY, shape=SHAPE)
    return made.eval()


def classifier(spec: Mapping[str, Any], sizes: Sizes = SIZES) -> IncompleteClassifier:
    torch.manual_seed(0)
    content = {"stem": {"filters": 8, **spec}, "net": NET, "data": {"name": "test"}}
    made = build_classifier(content, sizes, {"density": density()})
    if isinstance(made.stem.frozen, Imputer):
        made.stem.frozen.fit(random_images(20, SHAPE, seed=7).float(), random_mask(20, SHAPE, seed=8))
    return made.eval()


@pytest.fixture(params=STEMS)
def model(request: pytest.FixtureRequest) -> IncompleteClassifier:
    return classifier(STEMS[request.param])


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["model"])


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    x, mask = random_images(5, SHAPE).float(), random_mask(5, SHAPE)
    return torch.where(mask, x, 0), mask


def test_a_complete_image_is_convolved_as_usual(model, name):
    x, everything = random_images(4, SHAPE).float(), torch.ones(4, 1, *SHAPE[1:], dtype=torch.bool)
    found, conv = model.stem(x, everything), model.stem.conv
    plain = functional.conv2d(x, conv.weight[:, : SHAPE[0]], conv.bias, padding=conv.padding)
    if isinstance(model.stem, MaskStem):  # a constant further channel, zero in the padding
        plain = plain + functional.conv2d(
            torch.ones(1, 1, *SHAPE[1:]), conv.weight[:, SHAPE[0] :], padding=conv.padding
        )
    if isinstance(model.stem, PartialStem):  # padding counts as missing: the interior only
        found, plain = found[..., 1:-1, 1:-1], plain[..., 1:-1, 1:-1]
    torch.testing.assert_close(found, plain if name == "partial, authors" else plain.relu())


def test_misconv_is_exact_on_a_complete_image():
    for spec in (STEMS["misconv"], STEMS["misconv, no padding"]):
        one = {**DENSITY, "components": 1}
        stem = MisConvStem(2, build("density", one, shape=SHAPE).eval(), padding=spec.get("padding", 1))
        x, everything = random_images(4, SHAPE).float(), torch.ones(4, 1, *SHAPE[1:], dtype=torch.bool)
        wanted = functional.conv2d(x, stem.conv.weight, stem.conv.bias, padding=stem.conv.padding).relu()
        assert torch.equal(stem(x, everything), wanted)


def test_features_are_never_negative(model, name, images):
    features = model.stem(*images)
    assert features.isfinite().all() and (features > 0).any()
    assert name in NEGATIVE or (features >= 0).all()


def test_nothing_depends_on_missing_values(model, images):
    wanted = model(*images)
    for value in (7.0, float("nan"), float("inf")):
        assert torch.equal(model(torch.where(images[1], images[0], value), images[1]), wanted)


def test_masks_matter(model, images):
    everything = torch.ones_like(images[1])
    same = isinstance(model.stem, ImputeStem) and isinstance(model.stem.frozen, Zero)
    assert torch.equal(model(images[0], everything), model(*images)) == same


def test_images_of_a_batch_are_independent(model, images):
    wanted = model(*images)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model(images[0][order], images[1][order]), wanted[order])
    torch.testing.assert_close(model(images[0][1:3], images[1][1:3]), wanted[1:3])


def test_a_cached_encoding_gives_the_same_features(model, images):
    encoding = model.stem.encode(*images)
    assert torch.equal(model.stem(*images, encoding), model.stem(*images))
    tensors = [] if encoding is None else [encoding]
    if encoding is not None and not isinstance(encoding, Tensor):
        tensors = [encoding.mean, encoding.noise]
    assert not any(tensor.requires_grad for tensor in tensors)


def test_the_frozen_model_is_not_trained_and_everything_else_is_trained(model, images):
    before = {key: value.clone() for key, value in model.state_dict().items() if ".frozen." in key}
    model.train()
    assert model.training and model.stem.training and model.body.training
    if model.stem.frozen is not None:
        assert not any(module.training for module in model.stem.frozen.modules())
        assert not any(parameter.requires_grad for parameter in model.stem.frozen.parameters())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    functional.cross_entropy(model(*images), torch.tensor([0, 1, 2, 3, 4])).backward()
    optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert (model.stem.conv.weight.grad != 0).any()
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_the_frozen_model_stays_in_evaluation_mode():
    stem = MisConvStem(2, density().train())
    assert not any(module.training for module in stem.train().frozen.modules())
    stem = MisConvStem(2, density().train())
    stem.freeze()
    assert not any(module.training for module in stem.frozen.modules())


@pytest.mark.parametrize("stem", [name for name in STEMS if name != "misconv, authors"])
def test_masks_may_differ_between_channels(stem):
    model = classifier(STEMS[stem], Sizes(SHAPE, 5, mask_channels=SHAPE[0]))
    x, mask = random_images(5, SHAPE).float(), random_mask(5, SHAPE, per_channel=True)
    wanted = model(x, mask)
    assert torch.equal(model(torch.where(mask, x, float("nan")), mask), wanted)
    shared = random_mask(5, SHAPE)
    torch.testing.assert_close(model(x, shared), model(x, shared.expand(-1, SHAPE[0], -1, -1)))


def test_state_dict_round_trip(model, name, images):
    content = {"stem": {"filters": 8, **STEMS[name]}, "net": NET, "data": {"name": "test"}}
    twin = build_classifier(content, SIZES, {"density": build("density", DENSITY, shape=SHAPE)}).eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(*images), model(*images))


def test_stems_with_a_stateful_frozen_model_are_cacheable(model, name):
    assert model.stem.cacheable == (name in {"mean", "knn", "mfa_mean", "misconv", "misconv, no padding",
                                             "misconv, paper"})  # fmt: skip


def test_every_stem_is_tested():
    classes = {c for c in Stem.__subclasses__() if "lacuna" in c.__module__}
    assert {type(classifier(spec).stem) for spec in STEMS.values()} == classes - {ImageStem}  # which has no layer


def test_filters_and_sizes():
    for stem in (ImputeStem(2, Zero(), 5, 5, 2), MaskStem(2, 1, 5, 5, 2), PartialStem(2, 5, 5, 2),
                 MisConvStem(2, density(), 5, 5, 2)):  # fmt: skip
        x, mask = torch.rand(1, *SHAPE), torch.ones(1, 1, *SHAPE[1:], dtype=torch.bool)
        assert stem(x, mask).shape == (1, 5, *SHAPE[1:])


@pytest.mark.parametrize("mask_channels", [1, 2])
def test_the_mask_stem_with_masks_of_the_other_kind(mask_channels: int) -> None:
    """A shared mask is the same as one repeated for each channel; a mask per channel needs a stem built for it."""
    torch.manual_seed(0)
    stem = MaskStem(2, mask_channels, filters=4)
    observed, shared = random_images(3, SHAPE, seed=1).float(), random_mask(3, SHAPE, seed=2)[:, :1]
    repeated = shared.repeat(1, 2, 1, 1)
    if mask_channels == 2:
        assert torch.equal(stem(observed, shared), stem(observed, repeated))
    else:
        stem(observed, shared)
        with pytest.raises(LacunaError, match=r"mask.per_channel=false"):
            stem(observed, repeated)


def test_imputations_without_state_are_cacheable_unless_they_are_free():
    assert ImputeStem(3, Linear()).cacheable and not ImputeStem(3, Zero()).cacheable
