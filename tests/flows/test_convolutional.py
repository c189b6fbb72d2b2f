"""The convolutional RealNVP: its size, locality, and the arguments it refuses."""

from __future__ import annotations

import pytest
import torch

from lacuna.errors import LacunaError
from lacuna.flows.base import Condition
from lacuna.flows.convolutional import ConvolutionalRealNVP


def test_it_is_a_small_part_of_the_published_flow() -> None:
    """453 132 288 weights for 3x32x32; it has no layer as wide as the image, so its size is that of its filters."""
    with torch.device("meta"):
        sizes = [
            sum(weight.numel() for weight in ConvolutionalRealNVP((3, side, side), 3, 64).parameters())
            for side in (32, 64)
        ]
    assert sizes[0] == sizes[1] < 453_132_288 / 25


def test_a_latent_value_depends_on_a_neighbourhood_only() -> None:
    torch.manual_seed(0)
    flow = ConvolutionalRealNVP((1, 64, 8), scales=1, width=4, net={"type": "coupling_net.CouplingNet", "blocks": 1})
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    x = torch.rand(1, 1, 64, 8)
    other = x.clone()
    other[..., :8, :] = torch.rand(1, 1, 8, 8)
    z, moved = flow(x)[0], flow(other)[0]
    # four couplings with two 3x3 convolutions each reach 8 rows
    assert torch.equal(z[..., 16:, :], moved[..., 16:, :]) and not torch.equal(z[..., :8, :], moved[..., :8, :])


def test_what_it_refuses() -> None:
    with pytest.raises(LacunaError, match="multiples of 4, not 6x8: use fewer scales"):
        ConvolutionalRealNVP((1, 6, 8), scales=3, width=4)
    flow, x = ConvolutionalRealNVP((1, 4, 4), scales=1, width=4), torch.zeros(1, 1, 4, 4)
    for way in (flow.forward, flow.inverse):
        with pytest.raises(LacunaError, match="no condition"):
            way(x, Condition.unconditional(x))
