"""ResNet-18 for small images against torchvision's, with its first layers replaced."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lacuna.errors import LacunaError
from lacuna.nets.resnet import ResNet
from lacuna.registry import build
from tests.runs.real import config

SMALL = ((8, 1), (16, 2))


def reference(channels: int, classes: int) -> nn.Module:
    """torchvision's, with a 3x3 convolution of stride 1 and no pooling first."""
    models = pytest.importorskip("torchvision.models")
    net: nn.Module = models.resnet18(weights=None, num_classes=classes)
    net.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


@pytest.mark.parametrize("training", [False, True])
def test_it_is_torchvisions(training):
    torch.manual_seed(0)
    net, theirs = ResNet(3, (32, 32), 10), reference(3, 10)
    for module in net.modules():  # statistics that are not their initial values
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    theirs.load_state_dict(net.state_dict())
    x = torch.rand(3, 3, 32, 32)
    assert torch.allclose(net.train(training)(x), theirs.train(training)(x), atol=1e-4)
    assert sum(p.numel() for p in net.parameters()) == 11_173_962


def test_its_weights_start_as_torchvisions():
    torch.manual_seed(0)
    ours, theirs = ResNet(3, (32, 32), 10).state_dict(), reference(3, 10).state_dict()
    wide = [name for name, weight in ours.items() if weight.ndim == 4 and weight.numel() > 30_000]
    assert len(wide) > 10
    for name in wide:
        assert ours[name].std().item() == pytest.approx(theirs[name].std().item(), rel=0.02)
    assert all((ours[name] == theirs[name]).all() for name in ours if "bn" in name)


def test_classes_are_read_from_the_features():
    torch.manual_seed(0)
    net, x = ResNet(3, (32, 32), 7).eval(), torch.rand(2, 3, 32, 32)
    features = net.features(x)
    assert features.shape == (2, 512) and (features >= 0).all()
    assert torch.equal(net(x), net.fc(features)) and net(x).shape == (2, 7)


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (7, 9), (1, 1)])
def test_any_size_and_every_weight_is_trained(size):
    net = ResNet(4, size, 3, SMALL)
    out = net(torch.rand(3, 4, *size))
    assert out.shape == (3, 3) and net.features(torch.rand(3, 4, *size)).shape == (3, 16)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_every_stage_but_the_first_downsamples():
    net = ResNet(3, (16, 16), 3, ((4, 1), (4, 1), (8, 1))).eval()
    sizes = []
    for name in net.layers:
        net.get_submodule(name).register_forward_hook(lambda module, given, out: sizes.append(tuple(out.shape[1:])))
    net(torch.rand(1, 3, 16, 16))
    assert sizes == [(4, 16, 16), (4, 8, 8), (8, 4, 4)]


def test_values_out_of_range_are_refused():
    with pytest.raises(LacunaError, match=r"net.stages\[1\]=64 must be"):
        ResNet(3, (32, 32), 10, [[64, 2], 64])


def test_its_config_builds_it_for_whole_images():
    with torch.device("meta"):
        net = build("net", config("net=resnet18")["net"], filters=3, size=(32, 32), classes=10)
    assert type(net) is ResNet and sum(p.numel() for p in net.parameters()) == 11_173_962
