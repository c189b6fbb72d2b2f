"""LeNet-5: sizes as in the paper, a classifier behind a stem or on images, features of a FID."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lacuna
from lacuna.errors import LacunaError
from lacuna.nets.lenet import LeNet
from lacuna.registry import build
from tests.runs.real import config


def test_the_layers_have_the_printed_sizes():
    """C1 156, C5 48 120 and F6 10 164 weights as LeCun et al. print them; C3 sees all maps here, as everywhere now."""
    net = LeNet(1, (28, 28), 10)
    counts = [sum(p.numel() for p in m.parameters()) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert counts == [156, 16 * (6 * 25 + 1), 48_120, 10_164, 850]


def test_28x28_padded_is_the_papers_32x32():
    torch.manual_seed(0)
    net, unpadded = LeNet(1, (28, 28), 10), LeNet(1, (32, 32), 10, padding=(0, 0))
    unpadded.load_state_dict(net.state_dict())
    x = torch.rand(3, 1, 28, 28)
    assert torch.allclose(net(x), unpadded(nn.functional.pad(x, (2, 2, 2, 2))), atol=1e-6)


def test_classes_are_read_from_the_features():
    torch.manual_seed(0)
    net, x = LeNet(3, (32, 32), 7), torch.rand(4, 3, 32, 32)
    features = net.features(x)
    assert features.shape == (4, 84) and (features >= 0).all() and (features > 0).any()
    assert torch.equal(net(x), net.head(features)) and net(x).shape == (4, 7)


SIZES = [((12, 12), (2, 0)), ((13, 30), (2, 0)), ((4, 4), (2, 2)), ((8, 5), (2, 2))]


@pytest.mark.parametrize(("size", "padding"), SIZES)
def test_any_size_that_is_large_enough(size, padding):
    net = LeNet(2, size, 3, padding)
    out = net(torch.rand(2, 2, *size))
    assert out.shape == (2, 3)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("size", "padding", "said"),
    [
        ((11, 28), (2, 0), r"11x28 are too small for LeNet with net.padding=\[2, 0\]: choose net.padding=\[2,2\]"),
        ((3, 3), (2, 2), "3x3 are too small"),
        ((28, 28), (2,), r"net.padding=\[2\] must be two whole numbers"),
        ((28, 28), (2, -1), r"net.padding=\[2, -1\]"),
    ],
)
def test_values_out_of_range_are_refused(size, padding, said):
    with pytest.raises(LacunaError, match=said):
        LeNet(1, size, 10, padding)


@pytest.mark.parametrize(
    ("choice", "shape"), [("lenet", (1, 28, 28)), ("lenet", (3, 32, 32)), ("lenet_digits", (1, 8, 8))]
)
def test_its_configs_build_it_for_whole_images(choice, shape):
    net = build("net", config(f"net={choice}")["net"], filters=shape[0], size=shape[1:], classes=10)
    assert type(net) is LeNet and net(torch.rand(2, *shape)).shape == (2, 10)


def test_it_can_be_adapted_to_incomplete_images():
    """With nothing missing, the expectation of its first activation is its first activation."""
    torch.manual_seed(0)
    net, x = LeNet(1, (28, 28), 10).eval(), torch.rand(2, 1, 28, 28)

    def density(observed, mask):
        zero = torch.zeros_like(observed)[:, None]
        return lacuna.MFA(zero.flatten(1)[:, :1], zero, zero[:, :, None], zero + 1)

    adapted = lacuna.adapt(net, density).eval()
    everything = torch.ones(2, 1, 28, 28, dtype=torch.bool)
    assert torch.allclose(adapted(x, everything), net(x), atol=1e-5)
