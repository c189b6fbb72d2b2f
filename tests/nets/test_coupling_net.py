"""The couplings' network: filters of norm 1 or a learned one, the published initial values and layers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from lacuna.errors import LacunaError
from lacuna.nets.coupling_net import CouplingNet, UnitConv2d


def test_filters_have_norm_one_or_their_gain():
    plain, gained = UnitConv2d(5, 7, 3), UnitConv2d(5, 7, 3, gain=True)
    torch.testing.assert_close(plain.weight().flatten(1).norm(dim=1), torch.ones(7))
    torch.testing.assert_close(gained.weight().flatten(1).norm(dim=1), torch.full((7,), 3 * math.sqrt(1 / 6)))
    with torch.no_grad():
        gained.gain.copy_(torch.arange(1.0, 8).view(7, 1, 1, 1))
    torch.testing.assert_close(gained.weight().flatten(1).norm(dim=1), torch.arange(1.0, 8))


def test_it_is_torch_s_weight_norm():
    conv = UnitConv2d(5, 7, 3, gain=True)
    reference = nn.utils.parametrizations.weight_norm(nn.Conv2d(5, 7, 3, padding=1))
    with torch.no_grad():
        reference.parametrizations.weight.original0.copy_(conv.gain)
        reference.parametrizations.weight.original1.copy_(conv.direction)
        reference.bias.copy_(conv.bias)
    x = torch.randn(2, 5, 6, 4)
    torch.testing.assert_close(conv(x), reference(x), atol=1e-5, rtol=1e-5)


def test_only_the_direction_of_raw_weights_matters():
    conv, x = UnitConv2d(4, 4, 3).double(), torch.randn(2, 4, 5, 5, dtype=torch.float64)
    before = conv(x)
    with torch.no_grad():
        conv.direction *= torch.tensor([0.1, 2, 30, 1]).view(4, 1, 1, 1)
    torch.testing.assert_close(conv(x), before)


def test_raw_weights_start_uniform_within_the_published_bound():
    torch.manual_seed(0)
    raw = UnitConv2d(8, 500, 3).direction
    assert 0.49 < raw.abs().max() <= 0.5  # sqrt(2 / 8)
    assert abs(raw.var() - 0.5**2 / 3) < 0.01 * 0.5**2


def test_the_layers_are_the_published_ones():
    """reference/baselines.md 1.5, written with plain functions."""
    net = CouplingNet(3, 4, 6, blocks=2).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)

    def conv(layer: UnitConv2d, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, layer.weight(), layer.bias, padding="same")

    h = conv(net.stem, x)
    o = conv(net.skips[0], h)
    for block, skip in zip(net.blocks, list(net.skips)[1:], strict=True):
        inner = torch.relu(conv(block.second, torch.relu(conv(block.first, torch.relu(h)))))
        h = h + conv(block.third, inner)
        o = o + conv(skip, h)
    torch.testing.assert_close(net(x), conv(net.head, torch.relu(o)))
    kernels = [layer.direction.shape[-1] for layer in (net.stem, net.head, net.blocks[0].first, net.blocks[0].second)]
    assert kernels == [3, 1, 1, 3]
    assert [m.gain is not None for m in net.blocks[0].children()] == [False, False, True]
    assert net.stem.gain is None and net.head.gain is not None


@pytest.mark.parametrize(("width", "blocks"), [(0, 1), (4, 0), (4.5, 1), (4, "2")])
def test_impossible_sizes_are_refused(width, blocks):
    with pytest.raises(LacunaError, match=r"flow\..*must be a whole number of at least 1"):
        CouplingNet(3, 4, width, blocks)
