"""The multi-scale layout: couplings and inputs of each scale, and the published sizes."""

from __future__ import annotations

import warnings

import pytest
import torch

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.flows.acflow import ACFlow
from lacuna.flows.base import Condition, diagonal, with_diagonal
from lacuna.flows.coupling import ChannelCoupling, CheckerCoupling, Coupling
from lacuna.flows.multiscale import MultiScale
from lacuna.nets.coupling_net import CouplingNet
from lacuna.registry import NOT_ARGUMENTS

SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "celeba64": (3, 64, 64), "digits": (1, 8, 8)}


def configured(name: str) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a choice is usually not composed on its own
        return compose(CONFIGS, f"flow/{name}", [])["flow"]


def on_meta(name: str, shape: tuple[int, int, int]) -> ACFlow:
    """Without memory: the largest has 121 million parameters."""
    with torch.device("meta"):
        return ACFlow(shape, **{key: value for key, value in configured(name).items() if key not in NOT_ARGUMENTS})


@pytest.mark.parametrize(
    ("name", "parameters", "couplings"),
    [("mnist", 15_120_936, 22), ("cifar10", 12_524_256, 10), ("celeba64", 121_048_140, 28)],
)
def test_published_sizes(name, parameters, couplings):
    """reference/baselines.md 1.3, counted in the public code's graphs."""
    flow = on_meta(f"acflow_{name}", SHAPES[name])
    assert sum(parameter.numel() for parameter in flow.parameters()) == parameters
    assert sum(isinstance(module, Coupling) for module in flow.modules()) == couplings


@pytest.mark.parametrize("name", CONFIGS.options("flow"))
def test_every_config_is_a_flow_of_its_images(name):
    shape = SHAPES.get(name.removeprefix("acflow_"), (1, 28, 28))
    flow, spec = on_meta(name, shape), configured(name)
    assert spec["type"] == "acflow.ACFlow" and spec["training"]["epochs"] >= 1
    x = torch.zeros(2, *shape, device="meta")
    seen = torch.ones(2, 1, *shape[1:], dtype=torch.bool, device="meta")
    assert flow.log_prob(x, seen).shape == (2,)
    assert flow.sample(x, seen, 3).shape == (3, 2, *shape)


def test_the_order_and_width_of_the_couplings():
    """Keep even, odd, even pixels; transform the second, first, second half of the cells; again with the diagonals."""
    flow = MultiScale(1, 2, 4, lambda before, after, width: CouplingNet(before, after, width, 1))
    assert [c.parity for c in flow.checkerboards] == [0, 1, 0]
    assert [c.transformed for c in flow.channels] == [1, 0, 1]
    assert flow.coarse is not None and [c.parity for c in flow.coarse.checkerboards] == [0, 1, 0, 1]
    assert len(flow.coarse.channels) == 0 and flow.coarse.coarse is None
    stems = [module.net.stem.direction.shape[:2] for module in flow.modules() if isinstance(module, Coupling)]
    # (width, input channels): 3 C at the boards; 2 halves of 4 C / 2 at the cells; twice the width each
    assert [tuple(size) for size in stems] == [(4, 3)] * 3 + [(8, 4)] * 3 + [(8, 6)] * 4
    alphas = {type(c): c.alpha.item() for c in flow.modules() if isinstance(c, Coupling)}
    assert alphas == {CheckerCoupling: 0.0, ChannelCoupling: 1.0}


def test_checkers_keep_the_pixels_of_their_parity():
    torch.manual_seed(0)
    flow = CheckerCoupling(1, 4, 0, lambda before, after, width: CouplingNet(before, after, width, 1))
    x = torch.randn(1, 1, 4, 6)
    changed = flow(x)[0] != x
    assert [[bool(changed[0, 0, i, j]) for j in range(6)] for i in range(4)] == [
        [(i + j) % 2 == 1 for j in range(6)] for i in range(4)
    ]


def test_the_diagonal_pixels_go_on_and_come_back():
    x = torch.randn(2, 3, 4, 6)
    on = diagonal(x)
    assert on.shape == (2, 6, 2, 3)
    for c in range(3):  # first all channels of the upper left pixels, then of the lower right ones
        for i in range(2):
            for j in range(3):
                assert torch.equal(on[:, c, i, j], x[:, c, 2 * i, 2 * j])
                assert torch.equal(on[:, 3 + c, i, j], x[:, c, 2 * i + 1, 2 * j + 1])
    assert torch.equal(with_diagonal(x, on), x)
    other = torch.randn_like(on)
    assert torch.equal(diagonal(with_diagonal(x, other)), other)
    rest = torch.ones(4, 6, dtype=torch.bool)
    rest[0::2, 0::2] = rest[1::2, 1::2] = False
    assert torch.equal(with_diagonal(x, other)[..., rest], x[..., rest])


def test_a_context_keeps_every_value_at_every_scale():
    condition = Condition(torch.ones(1, 2, 8, 8), torch.zeros(1, 2, 8, 8), torch.arange(128.0).view(1, 2, 8, 8))
    for next_scale in (condition.squeeze(), condition.coarse(), condition.coarse().coarse()):
        assert next_scale.context is not None
        assert sorted(next_scale.context.flatten().tolist()) == list(range(128))
        assert next_scale.context.shape[2:] == next_scale.observed.shape[2:]


def test_without_a_context_a_coarse_scale_sees_half_of_the_image():
    condition = Condition(torch.ones(1, 2, 8, 8), torch.zeros(1, 2, 8, 8))
    assert condition.coarse().observed.numel() == condition.observed.numel() // 2


@pytest.mark.parametrize("scales", [0, 1.5, "2"])
def test_impossible_scales_are_refused(scales):
    with pytest.raises(LacunaError, match=r"flow\.scales=.* must be a whole number of at least 1"):
        MultiScale(1, scales, 4, lambda before, after, width: CouplingNet(before, after, width, 1))
