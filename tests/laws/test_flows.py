"""The laws of every flow: invertible, the log-determinant is autograd's, observed and missing values pass unchanged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.flows.base import Condition, Flow
from lacuna.flows.convolutional import ConvolutionalRealNVP
from lacuna.flows.coupling import ChannelCoupling, CheckerCoupling
from lacuna.flows.multiscale import MultiScale
from lacuna.flows.realnvp import MaskedCoupling, RealNVP, random_coupling_mask
from lacuna.nets.coupling_net import CouplingNet
from tests.laws.guard import assert_all_listed

CHANNELS, SIDES = 2, (4, 8)
CONTEXT = 3  # channels


def net(before: int, after: int, width: int) -> CouplingNet:
    return CouplingNet(before, after, width, blocks=1)


# name -> a new flow of images of CHANNELS x SIDES, with a context of so many channels
FLOWS: dict[str, Callable[[int], Flow]] = {
    "checker-0": lambda context: CheckerCoupling(CHANNELS, 4, 0, net, context),
    "checker-1": lambda context: CheckerCoupling(CHANNELS, 4, 1, net, context),
    "channels-0": lambda context: ChannelCoupling(CHANNELS, 4, 0, net, context),
    "channels-1": lambda context: ChannelCoupling(CHANNELS, 4, 1, net, context),
    "one-scale": lambda context: MultiScale(CHANNELS, 1, 4, net, context),
    "three-scales": lambda context: MultiScale(CHANNELS, 3, 4, net, context),
    "half": lambda context: MaskedCoupling(random_coupling_mask(CHANNELS * SIDES[0] * SIDES[1]), [4]),
    "realnvp": lambda context: RealNVP((CHANNELS, *SIDES), 4, [5, 4]),
    "convolutional": lambda context: ConvolutionalRealNVP((CHANNELS, *SIDES), 2, 4),
}
UNCONDITIONAL = ("half", "realnvp", "convolutional")  # those of FLOWS that know no condition
CONDITIONAL = tuple(name for name in FLOWS if name not in UNCONDITIONAL)
KINDS = ("unconditional", "observed", "missing", "context")
PAIRS = [(name, kind) for name in FLOWS for kind in KINDS if kind == "unconditional" or name in CONDITIONAL]


def made(name: str, kind: str = "unconditional", dtype: torch.dtype = torch.float64) -> Flow:
    """With parameters as after some training: none of them zero."""
    torch.manual_seed(0)
    flow = FLOWS[name](CONTEXT if kind == "context" else 0).to(dtype)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return flow


def regions(kind: str, n: int, dtype: torch.dtype = torch.float64) -> Condition | None:
    """Other regions in each of n images, and the channels'; a third of the values is missing where any is."""
    if kind == "unconditional":
        return None
    generator = torch.Generator().manual_seed(1)
    third = torch.randint(3, (n, CHANNELS, *SIDES), generator=generator)
    target = third == 0 if kind == "missing" else third <= 1
    context = torch.randn(n, CONTEXT, *SIDES, generator=generator) if kind == "context" else None
    return Condition((third == 2).to(dtype), target.to(dtype), None if context is None else context.to(dtype))


def values(condition: Condition | None, n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Anything, and zero where it is missing."""
    x = 2 * torch.randn(n, CHANNELS, *SIDES, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x.to(dtype) if condition is None else x.to(dtype) * condition.present


every = pytest.mark.parametrize("name", CONDITIONAL)
every_kind = pytest.mark.parametrize(("name", "kind"), PAIRS)


def test_every_flow_is_here() -> None:
    assert_all_listed(Flow, (new(0) for new in FLOWS.values()), "FLOWS in tests/laws/test_flows.py")


@every_kind
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-3)], ids=str)
def test_the_inverse_undoes_it_and_its_change_of_volume(
    name: str, kind: str, dtype: torch.dtype, tolerance: float
) -> None:
    flow, condition = made(name, kind, dtype), regions(kind, 5, dtype)
    x = values(condition, 5, dtype)
    for there, back in ((flow.forward, flow.inverse), (flow.inverse, flow.forward)):
        z, log_det = there(x, condition)
        again, inverse_log_det = back(z, condition)
        assert z.shape == x.shape and log_det.shape == (5,) and z.dtype == log_det.dtype == dtype
        assert (z - x).abs().max() > 0.1 and log_det.abs().min() > 1e-3  # it does something
        torch.testing.assert_close(again, x, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(inverse_log_det, -log_det, atol=tolerance, rtol=tolerance)


@every_kind
def test_the_log_determinant_is_that_of_autograd_s_jacobian(name: str, kind: str) -> None:
    flow, condition = made(name, kind), regions(kind, 1)
    x = values(condition, 1)
    target = torch.ones(x.numel(), dtype=torch.bool) if condition is None else condition.target.flatten() > 0
    for there in (flow.forward, flow.inverse):
        jacobian = torch.autograd.functional.jacobian(
            lambda flat, there=there: there(flat.view_as(x), condition)[0].flatten(), x.flatten()
        )
        _, expected = torch.linalg.slogdet(jacobian[target][:, target])
        torch.testing.assert_close(there(x, condition)[1][0], expected, atol=1e-10, rtol=1e-10)


@every
@pytest.mark.parametrize("kind", ["observed", "missing", "context"])
def test_values_outside_the_target_pass_bit_identical(name: str, kind: str) -> None:
    flow, condition = made(name, kind, torch.float32), regions(kind, 5, torch.float32)
    assert condition is not None
    x = values(condition, 5, torch.float32)
    target = condition.target > 0
    for there in (flow.forward, flow.inverse):
        z, _ = there(x, condition)
        assert torch.equal(z[~target], x[~target])


@pytest.mark.parametrize("name", UNCONDITIONAL)
def test_a_condition_is_refused_where_it_would_be_ignored(name: str) -> None:
    with pytest.raises(LacunaError, match="no condition"):
        made(name, dtype=torch.float32)(values(None, 3, torch.float32), regions("observed", 3, torch.float32))


@every
def test_without_target_nothing_changes(name: str) -> None:
    flow, x = made(name, "observed", torch.float32), values(None, 3, torch.float32)
    z, log_det = flow(x, Condition(torch.ones_like(x), torch.zeros_like(x)))
    assert torch.equal(z, x) and torch.equal(log_det, torch.zeros(3))


@every_kind
def test_images_of_a_batch_do_not_matter_to_each_other(name: str, kind: str) -> None:
    flow, condition = made(name, kind), regions(kind, 5)
    x = values(condition, 5)
    z, log_det = flow(x, condition)
    order = torch.tensor([3, 0])
    part = None if condition is None else Condition(*(t if t is None else t[order] for t in condition))
    alone, alone_log_det = flow(x[order], part)
    torch.testing.assert_close(alone, z[order])
    torch.testing.assert_close(alone_log_det, log_det[order])


@every_kind
def test_gradients_reach_every_parameter_and_are_finite(name: str, kind: str) -> None:
    flow, condition = made(name, kind), regions(kind, 5)
    z, log_det = flow(values(condition, 5), condition)
    (z.square().sum() - log_det.sum()).backward()
    for key, parameter in flow.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@every_kind
def test_channels_last_changes_nothing(name: str, kind: str) -> None:
    flow, condition = made(name, kind), regions(kind, 5)
    x = values(condition, 5)
    z, log_det = flow(x, condition)
    last, last_log_det = flow.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), condition)
    torch.testing.assert_close(last, z)
    torch.testing.assert_close(last_log_det, log_det)
