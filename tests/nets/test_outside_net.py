"""Networks of torchvision and timm behind every stem."""

from __future__ import annotations

import copy
import re

import pytest
import timm
import torch
import torchvision
from torch import nn

from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.layers.stem import ImputeStem
from lacuna.nets.outside_net import OutsideNet
from lacuna.registry import build, find
from lacuna.runs.folder import RunFolder
from lacuna.tasks.common.models import IncompleteClassifier, Sizes, build_model
from lacuna.training.stored_model import load
from tests.runs.real import TINY, recipe, train

TORCHVISION, TIMM = "torchvision.models.resnet18", "timm.test_resnet"
SMALL = {"kernel_size": 3, "stride": 1, "padding": 1}


def model(net: dict, stem: dict, shape=(3, 32, 32)) -> IncompleteClassifier:
    config = {"task": {"name": "classify"}, "data": {"name": "x"}, "net": {"name": "x", **net}, "stem": stem}
    torch.manual_seed(0)
    made = build_model(config, Sizes(shape, 7), {})
    assert isinstance(made, IncompleteClassifier)
    return made.eval()


ZERO = {"type": "stem.ImputeStem", "imputer": {"type": "simple.Zero"}}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (TORCHVISION, lambda: torchvision.models.resnet18(num_classes=7)),
        ("torchvision.models.densenet121", lambda: torchvision.models.densenet121(num_classes=7)),
        ("torchvision.models.vgg11", lambda: torchvision.models.vgg11(num_classes=7)),
        (TIMM, lambda: timm.create_model("test_resnet", num_classes=7)),
        ("timm.mobilenetv3_small_050", lambda: timm.create_model("mobilenetv3_small_050", num_classes=7)),
    ],
)
def test_it_is_the_network_with_relu_behind_its_first_convolution(name, plain):
    """Everything else is unchanged, weights included: torchvision's and timm's own forward passes say so."""
    made = model({"type": name}, ZERO)
    reference = plain().eval()
    first = next(part for part, layer in reference.named_modules() if isinstance(layer, nn.Conv2d))
    reference.load_state_dict({**reference.state_dict(), **made.body.network.state_dict()})
    old = reference.get_submodule(first)
    assert (old.stride, old.padding) == (made.stem.conv.stride, made.stem.conv.padding)
    reference.set_submodule(first, nn.Sequential(copy.deepcopy(made.stem.conv), nn.ReLU()))
    images = torch.rand(3, 3, 32, 32)
    mask = torch.ones(3, 1, 32, 32, dtype=torch.bool)
    assert torch.equal(made(images, mask), reference(images))
    # and with the gradient, which an activation that works in place would break
    made.train()(images, mask).sum().backward()
    assert all(weight.grad is not None for weight in made.parameters())


def test_the_stem_can_be_the_patches_of_a_transformer():
    made = model({"type": "timm.test_vit", "img_size": 32, "patch_size": 8}, ZERO)
    assert made.stem.conv.kernel_size == made.stem.conv.stride == (8, 8)
    assert made(torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32, dtype=torch.bool)).shape == (2, 7)


@pytest.mark.parametrize("first_layer", [None, SMALL])
def test_the_stem_has_the_size_of_the_first_convolution_or_the_one_that_is_asked_for(first_layer):
    conv = model({"type": TORCHVISION, "first_layer": first_layer}, ZERO, (1, 8, 8)).stem.conv
    found = {"kernel_size": conv.kernel_size[0], "stride": conv.stride[0], "padding": conv.padding[0]}
    assert found == (first_layer or {"kernel_size": 7, "stride": 2, "padding": 3})
    assert (conv.in_channels, conv.out_channels) == (1, 64)


def test_behind_a_stem_without_a_layer_it_keeps_its_own_first_convolution():
    made = model({"type": TORCHVISION}, {"type": "stem.ImageStem"}, (1, 16, 16))
    assert made.body.network.conv1.in_channels == 1
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(made(images, images[:, :1] >= 0), made.body.network(images))


@pytest.mark.parametrize("name", [TORCHVISION, TIMM, "torchvision.models.vgg11"])
def test_its_features_are_what_its_last_layer_takes(name):
    made = model({"type": name}, ZERO)
    images = torch.rand(3, 3, 32, 32)
    last = [layer for layer in made.body.network.modules() if isinstance(layer, nn.Linear)][-1]
    assert torch.equal(last(made.features(images)), made(images, images[:, :1] >= 0))
    without = model({"type": "torchvision.models.squeezenet1_1"}, ZERO, (3, 64, 64))
    with pytest.raises(LacunaError, match="does not end in a fully connected layer"):
        without.features(torch.rand(1, 3, 64, 64))


def test_it_can_be_compiled_and_copied():
    made = model({"type": TIMM}, ZERO)
    images, mask = torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32, dtype=torch.bool)
    compiled = torch.compile(copy.deepcopy(made), backend="eager")
    torch.testing.assert_close(compiled(images, mask), made(images, mask))
    torch.testing.assert_close(compiled(images[:1], mask[:1]), made(images[:1], mask[:1]))


@pytest.mark.parametrize(
    ("spec", "shape", "sentence"),
    [
        ({"type": "torchvision.models.resnet19"}, (3, 32, 32), "no such network; did you mean torchvision.models.resn"),
        ({"type": "torchvision.models.ResNet"}, (3, 32, 32), "no such network; did you mean torchvision.models.resnet"),
        ({"type": "torchvision.models.quantization.resnet18"}, (3, 32, 32), "there is no such network"),
        ({"type": "timm.nothing_like_it"}, (3, 32, 32), "there is no such network"),
        ({"type": TIMM, "pretrained": True}, (3, 32, 32), "is trained from random weights: leave out net.pretrained"),
        ({"type": TORCHVISION, "weights": "DEFAULT"}, (3, 32, 32), "leave out net.weights"),
        ({"type": TORCHVISION, "num_classes": 3}, (3, 32, 32), "net.num_classes is given by the data"),
        ({"type": TORCHVISION, "colour": 3}, (3, 32, 32), r"net \(torchvision.models.resnet18\): .*'colour'"),
        ({"type": TORCHVISION, "first_layer": {"width": 3}}, (3, 32, 32), "the keys of first_layer are kernel_size"),
        ({"type": TORCHVISION, "first_layer": {"stride": 0}}, (3, 32, 32), "net.first_layer.stride=0"),
        ({"type": "torchvision.models.vgg11"}, (1, 8, 8), "does not take images of 1x8x8 .*: choose larger images"),
        ({"type": "torchvision.models.vit_b_16"}, (3, 32, 32), r"does not take images of 3x32x32 \(Wrong image height"),
        ({"type": "torchvision.models.googlenet", "init_weights": False}, (3, 96, 96), "returns GoogLeNetOutputs"),
        ({"type": "timm.mixer_s32_224"}, (3, 32, 32), "does not take images of"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(spec, shape, sentence):
    with pytest.raises(LacunaError, match=sentence) as error, torch.device("meta"):
        build("net", spec, shape=shape, classes=7)
    assert "\n" not in str(error.value) and str(error.value).endswith((".", "?"))


def test_regnets_can_be_checked_without_memory():
    with torch.device("meta"):
        made = build("net", {"type": "torchvision.models.regnet_y_400mf"}, shape=(3, 32, 32), classes=7)
    assert {weight.device.type for weight in made.parameters()} == {"meta"}


# ---------------------------------------------------------------------------------------------- through the command


@pytest.mark.parametrize("stem", CONFIGS.options("stem"))
def test_a_network_by_name_is_trained_behind_every_stem(stem, tmp_path, digits_root):
    """8x8 digits, with the network's own first convolution of stride 2."""
    small = [word for word in TINY if not word.startswith("net.")]
    words = [f"stem={stem}", "net=timm", f"net.type={TIMM}", "budget=smoke", f"data.root={digits_root}", *small]
    assert train(*words, f"output={tmp_path}") == 0
    made = recipe(*words)
    assert set(made.config["plugins"]) == {"timm"} and "filters" not in made.config["stem"]
    loaded = load(RunFolder.of(tmp_path, made))  # its package needs no naming
    assert isinstance(loaded, IncompleteClassifier) and type(loaded.body) is find("net", TIMM) is OutsideNet
    out = loaded(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8) > 0.3)
    assert out.shape == (2, 10) and out.isfinite().all()
    if isinstance(loaded.stem, ImputeStem):
        assert loaded.stem.conv.stride == (2, 2)


def test_the_size_of_the_stem_is_the_networks(tmp_path, digits_root, capsys):
    words = ["stem=zero", "net=torchvision_resnet18", f"data.root={digits_root}", "budget=smoke"]
    assert train(*words, "stem.kernel_size=5", f"output={tmp_path}") == 2
    assert re.search(r"error: stem\.kernel_size=5: the stem becomes the first conv.*\n$", capsys.readouterr().err)
    assert set(recipe(*words).config["plugins"]) == {"torchvision"}
