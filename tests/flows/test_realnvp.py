"""RealNVP on flattened images: published sizes and formulas, exact densities, and their bound."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lacuna.errors import LacunaError
from lacuna.flows.realnvp import RealNVP, random_coupling_mask
from lacuna.nets.dense_net import DenseNet

SHAPE = (2, 2, 2)


def made(scale: float = 0.3, couplings: int = 6) -> RealNVP:
    """With parameters as after some training; ``scale`` says how far."""
    torch.manual_seed(0)
    flow = RealNVP(SHAPE, couplings).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += scale * torch.randn_like(parameter)
    return flow


def images(n: int) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_sizes() -> None:
    """reference/prflow.md 2.1 and 2.2, counted from the layers named there."""
    with FakeTensorMode():
        assert count(DenseNet(784, 784, [784] * 3)) == 2_461_760
        assert count(DenseNet(784, 784, [784] * 4)) == 3_077_200
        assert count(DenseNet(3072, 3072, [1024] * 3)) == 8_394_752
        assert count(DenseNet(3072, 3072, [3072] * 4)) == 47_201_280
    with torch.device("meta"):
        large = [DenseNet(3072, 3072, [3072] * 3) for _ in range(12)]
    assert sum(map(count, large)) == 453_132_288
    with torch.device("meta"):
        coupling = [DenseNet(784, 784, [784] * 3, bounded=True), DenseNet(784, 784, [784] * 3)]
    assert 6 * sum(map(count, coupling)) == 29_541_120
    flow = RealNVP((1, 6, 6))
    assert count(flow) == 12 * 4 * (36**2 + 36) and len(flow.couplings) == 6


def test_the_published_formulas() -> None:
    """Written with the code's mask b: x <- b x + (1 - b)(x exp(s) + t), s = (1 - b) tanh(...), nets read b x."""
    flow, x = made(), images(5)
    z, log_det = flow(x)
    flat, total = x.flatten(1), torch.zeros(5, dtype=torch.float64)
    for coupling in flow.couplings:
        b = coupling.mask.double()
        s, t = torch.tanh(coupling.scale.layers[:-1](b * flat)) * (1 - b), coupling.shift(b * flat) * (1 - b)
        flat, total = b * flat + (1 - b) * (flat * s.exp() + t), total + s.sum(1)
    torch.testing.assert_close(z.flatten(1), flat)
    torch.testing.assert_close(log_det, total)


@pytest.mark.parametrize("size", [2, 7, 784])
def test_a_coupling_mask_keeps_exactly_half_at_random(size: int) -> None:
    masks = torch.stack([random_coupling_mask(size) for _ in range(400)])
    assert (~masks).sum(1).eq(size // 2).all()
    if size == 784:  # every position is kept in half of the draws: 4 standard errors
        assert (masks.double().mean(0) - 0.5).abs().max() < 4.5 * 0.5 / 400**0.5
        assert masks.unique(dim=0).shape[0] == 400


def test_pairs_are_complements_and_flows_differ() -> None:
    flow = RealNVP((1, 4, 4))
    for i in (0, 2, 4):
        assert torch.equal(flow.couplings[i].mask, ~flow.couplings[i + 1].mask)
    assert not torch.equal(flow.couplings[0].mask, flow.couplings[2].mask)
    assert not torch.equal(RealNVP((1, 4, 4)).couplings[0].mask, flow.couplings[0].mask)
    restored = RealNVP((1, 4, 4))
    restored.load_state_dict(flow.state_dict())  # the coupling masks are part of the state
    x = torch.rand(2, 1, 4, 4)
    assert torch.equal(restored(x)[0], flow(x)[0])


def test_the_density_is_the_change_of_variables() -> None:
    flow, x = made(), images(3)
    for image, found in zip(x, flow.log_prob(x), strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda flat: flow(flat.view(1, *SHAPE))[0].flatten(), image.flatten()
        )
        z, _ = flow(image[None])
        normal = torch.distributions.Normal(0, 1).log_prob(z).sum()
        torch.testing.assert_close(found, normal + torch.linalg.slogdet(jacobian)[1], atol=1e-10, rtol=1e-10)


def test_the_density_integrates_to_one() -> None:
    """Two values, summed over a fine grid."""
    torch.manual_seed(3)
    flow = RealNVP((1, 1, 2), 4, [8]).double()
    axis = torch.linspace(-40, 40, 1201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
    with torch.no_grad():
        total = flow.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert float(total) == pytest.approx(1, abs=1e-4)


def test_decoding_yields_the_density_without_a_second_pass() -> None:
    """log p(x) of x = inverse(z) from the inverse pass alone, and the same gradients."""
    flow, z = made(), torch.randn(4, *SHAPE, dtype=torch.float64, requires_grad=True)
    x, log_prob = flow.decode(z)
    torch.testing.assert_close(log_prob, flow.log_prob(x), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(flow(x)[0], z, atol=1e-10, rtol=1e-10)
    (fast,) = torch.autograd.grad(log_prob.sum(), z, retain_graph=True)
    (slow,) = torch.autograd.grad(flow.log_prob(x).sum(), z)
    torch.testing.assert_close(fast, slow, atol=1e-9, rtol=1e-9)


def test_the_bound_of_the_nll_holds_and_is_tight() -> None:
    """-log p >= -2.0811 D (reference/prflow.md 2.3), with equality where every s is 1 and the latent value is 0."""
    assert RealNVP((1, 4, 4), widths=[2]).nll_bound / 16 == pytest.approx(-2.0811, abs=1e-4)
    for scale in (0.3, 3.0, 30.0):
        flow = made(scale)
        assert -flow.log_prob(images(20)).max() >= flow.nll_bound
    with torch.no_grad():
        for coupling in flow.couplings:
            for net, bias in ((coupling.scale, 50.0), (coupling.shift, 0.0)):
                last = [layer for layer in net.layers if isinstance(layer, torch.nn.Linear)][-1]
                last.weight.zero_()
                last.bias.fill_(bias)
        assert -flow.log_prob(torch.zeros(1, *SHAPE).double()).item() == pytest.approx(flow.nll_bound)


def test_a_new_flow_is_nearly_the_identity() -> None:
    """At the start -log p = 0.919 D + |x|²/2 or so (reference/prflow.md 2.3)."""
    torch.manual_seed(0)
    x = torch.rand(20, 1, 12, 12)
    expected = 0.5 * math.log(2 * math.pi) * 144 + 0.5 * x.square().sum((1, 2, 3))
    with torch.no_grad():
        torch.testing.assert_close(-RealNVP((1, 12, 12)).log_prob(x), expected, rtol=0.05, atol=0)


def test_mistakes_are_named() -> None:
    with pytest.raises(LacunaError, match=r"flow\.couplings=5"):
        RealNVP(SHAPE, 5)
    with pytest.raises(LacunaError, match="two values"):
        RealNVP((1, 1, 1))
    with pytest.raises(LacunaError, match=r"flow\.widths=\[0\]"):
        RealNVP(SHAPE, widths=[0])
    with pytest.raises(LacunaError, match=r"net\.widths=\[\]"):
        DenseNet(4, 4, [])
