"""MisConv2d against the dense distribution of conv(Z), Monte-Carlo, and the published formulas written out."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from lacuna.layers.misconv import MisConv2d
from lacuna.mfa import MFA
from tests.dense import Dense, random_images, random_mask, random_mfa

SHAPE = (2, 6, 5)
CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "no padding": {"kernel_size": (2, 3)},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "groups": {"kernel_size": 3, "padding": (0, 1), "groups": 2},
    "no bias": {"kernel_size": 3, "bias": False},
    "same": {"kernel_size": (3, 1), "padding": "same"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "pointwise": {"kernel_size": 1},
}


def convolution(name: str = "plain", out: int = 4, dtype: torch.dtype = torch.float64) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(SHAPE[0], out, dtype=dtype, **CONVOLUTIONS[name])


def as_matrix(conv: nn.Conv2d) -> tuple[np.ndarray, np.ndarray]:
    """The convolution as a dense matrix and offset: conv(z) = M z + b for flat images z."""
    n = math.prod(SHAPE)
    with torch.no_grad():
        offset = conv(torch.zeros(1, *SHAPE, dtype=torch.float64))
        units = conv(torch.eye(n, dtype=torch.float64).view(n, *SHAPE)) - offset
    return units.flatten(1).T.numpy(), offset.flatten().numpy()


def dense_expectation(conv: nn.Conv2d, dense: Dense) -> np.ndarray:
    """E[ReLU(M Z + b)] from the full covariance of M Z, flat."""
    matrix, offset = as_matrix(conv)
    total = 0
    for weight, mean, covariance in zip(dense.weights, dense.means, dense.covariances, strict=True):
        m, s = matrix @ mean + offset, np.sqrt(np.diag(matrix @ covariance @ matrix.T))
        t = np.divide(m, s, out=np.full_like(m, np.inf), where=s > 0)
        total = total + weight * np.where(s > 0, m * norm.cdf(t) + s * norm.pdf(t), np.maximum(m, 0))
    return total


@pytest.mark.parametrize(("k", "rank"), [(1, 0), (1, 4), (3, 2)])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_agrees_with_the_dense_covariance_of_the_output(name, k, rank):
    conv = convolution(name)
    mask = random_mask(2, SHAPE)
    mfa = random_mfa(2, k, rank, SHAPE).pin(random_images(2, SHAPE), mask)
    found = MisConv2d.from_conv(conv)(mfa)
    assert found.shape == conv(mfa.expectation()).shape
    for i in range(2):
        expected = dense_expectation(conv, Dense.of(mfa, i))
        np.testing.assert_allclose(found[i].detach().numpy().ravel(), expected, atol=1e-11)


@pytest.mark.parametrize(("activation", "plain"), [("relu", nn.ReLU()), ("leaky_relu", nn.LeakyReLU()),
                                                   ("gelu", nn.GELU()), ("identity", nn.Identity())])  # fmt: skip
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_agrees_with_monte_carlo(name, activation, plain):
    """Drawn by numpy from the dense mixture, then an ordinary convolution: within 4 standard errors."""
    conv, n = convolution(name, out=2), 10_000
    mfa = random_mfa(1, 2, 2, SHAPE, seed=3).pin(random_images(1, SHAPE), random_mask(1, SHAPE))
    dense, rng = Dense.of(mfa, 0), np.random.default_rng(0)
    chosen = rng.choice(2, size=n, p=dense.weights)
    components = zip(dense.means, dense.covariances, strict=True)
    draws = np.stack([rng.multivariate_normal(mean, covariance, size=n) for mean, covariance in components])
    z = torch.from_numpy(draws[chosen, np.arange(n)]).view(n, *SHAPE)
    with torch.no_grad():
        values = plain(conv(z))
        found = MisConv2d.from_conv(conv, activation=activation)(mfa)[0]
    error = values.std(0) / math.sqrt(n)
    # outputs that are active in a handful of draws have no usable standard error; the exact test above covers them
    busy = (values != 0).sum(0) > 30
    assert busy.float().mean() > 0.8
    assert ((values.mean(0) - found)[busy].abs() <= 4 * error[busy] + 1e-12).all()


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_complete_image_gives_exactly_the_ordinary_layer(name):
    conv = convolution(name, dtype=torch.float32)
    x = random_images(3, SHAPE).float()
    everything = torch.ones(3, 1, *SHAPE[1:], dtype=torch.bool)
    mfa = random_mfa(3, 1, 2, SHAPE, dtype=torch.float32)
    wanted = conv(x).relu()
    layer = MisConv2d.from_conv(conv)
    assert torch.equal(layer(mfa.pin(x, everything)), wanted)
    assert torch.equal(layer(mfa.to(torch.float64).pin(x.double(), everything)), wanted)
    mixture = random_mfa(3, 4, 2, SHAPE, dtype=torch.float32).pin(x, everything)
    torch.testing.assert_close(layer(mixture), wanted)


def test_complete_image_gives_the_ordinary_gradients():
    x, everything = random_images(3, SHAPE), torch.ones(3, 1, *SHAPE[1:], dtype=torch.bool)
    conv = convolution()
    wanted = torch.autograd.grad(conv(x).relu().square().sum(), (conv.weight, conv.bias))
    mfa = random_mfa(3, 1, 2, SHAPE).pin(x, everything)
    found = torch.autograd.grad(MisConv2d.from_conv(conv)(mfa).square().sum(), (conv.weight, conv.bias))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_a_density_without_spread_gives_the_naive_layer():
    x, mask, mfa = random_images(3, SHAPE), random_mask(3, SHAPE), random_mfa(3, 1, 2, SHAPE)
    certain = MFA(mfa.logits, mfa.mean, torch.zeros_like(mfa.factors), torch.zeros_like(mfa.noise)).pin(x, mask)
    conv = convolution()
    torch.testing.assert_close(MisConv2d.from_conv(conv)(certain), conv(torch.where(mask, x, mfa.mean[:, 0])).relu())


def test_windows_without_missing_pixels_are_convolved_as_usual():
    conv, x = convolution(), random_images(1, SHAPE)
    mask = torch.ones(1, 1, *SHAPE[1:], dtype=torch.bool)
    mask[..., 0, 0] = False
    found = MisConv2d.from_conv(conv)(random_mfa(1, 1, 2, SHAPE).pin(x, mask))
    difference = (found - conv(x).relu()).abs().amax((0, 1))
    assert (difference[:2, :2] > 0).all()
    difference[:2, :2] = 0
    assert difference.max() < 1e-15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_never_negative(dtype):
    mfa = random_mfa(8, 3, 4, SHAPE, dtype=dtype)
    torch.manual_seed(1)
    layer = MisConv2d(2, 64, 3, padding=1, dtype=dtype)
    with torch.no_grad():
        layer.bias.sub_(1)  # nearly everything far in the negative tail
        out = layer(mfa.pin(random_images(8, SHAPE).to(dtype), random_mask(8, SHAPE)))
    assert out.isfinite().all() and (out >= 0).all() and (out < 1e-3).any()


@pytest.mark.parametrize("name", ["plain", "stride", "groups", "circular"])
def test_gradients_flow_through_every_term(name):
    shape = (2, 3, 3)
    mfa = random_mfa(1, 2, 2, shape)
    conv = convolution(name, out=2)
    layer = MisConv2d.from_conv(conv)

    def forward(weight: Tensor, bias: Tensor, logits: Tensor, mean: Tensor, factors: Tensor, noise: Tensor) -> Tensor:
        parameters = {"weight": weight, "bias": bias}
        return torch.func.functional_call(layer, parameters, (MFA(logits, mean, factors, noise),))

    parts = [part.requires_grad_() for part in (mfa.logits, mfa.mean, mfa.factors, mfa.noise)]
    assert torch.autograd.gradcheck(forward, (conv.weight, conv.bias, *parts))


@pytest.mark.parametrize("options", [{}, {"formula": "paper"}, {"activation": "gelu"}, {"activation": "leaky_relu"}])
def test_gradients_are_finite_where_everything_is_observed(options):
    x = torch.zeros(2, *SHAPE)  # black: with no bias, m = v = 0
    layer = MisConv2d(2, 4, 3, padding=1, bias=False, **options)
    mfa = random_mfa(2, 2, 2, SHAPE, dtype=torch.float32).pin(x, torch.ones(2, 1, *SHAPE[1:], dtype=torch.bool))
    noise = mfa.noise.requires_grad_()
    layer(MFA(mfa.logits, mfa.mean, mfa.factors, noise)).sum().backward()
    assert layer.weight.grad.isfinite().all() and noise.grad.isfinite().all()


def test_moments_are_those_of_the_convolved_components():
    conv, mfa = convolution("stride"), random_mfa(2, 3, 2, SHAPE)
    matrix, offset = as_matrix(conv)
    m, v = MisConv2d.from_conv(conv).moments(mfa)
    for i in range(2):
        dense = Dense.of(mfa, i)
        for k in range(3):
            np.testing.assert_allclose(m[i, k].detach().numpy().ravel(), matrix @ dense.means[k] + offset, atol=1e-12)
            spread = np.diag(matrix @ dense.covariances[k] @ matrix.T)
            np.testing.assert_allclose(v[i, k].detach().numpy().ravel(), spread, atol=1e-12)


def test_order_of_components_and_batch_composition_change_nothing():
    mfa, layer = random_mfa(5, 3, 2, SHAPE), MisConv2d.from_conv(convolution())
    wanted = layer(mfa)
    torch.testing.assert_close(layer(mfa.permute_components(torch.tensor([2, 0, 1]))), wanted)
    torch.testing.assert_close(layer(mfa[torch.tensor([4, 1])]), wanted[[4, 1]])


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_chunk_size_is_irrelevant(chunk):
    mfa, conv = random_mfa(5, 2, 2, SHAPE), convolution()
    whole = MisConv2d.from_conv(conv, chunk=None)(mfa)
    wanted = torch.autograd.grad(whole.square().sum(), conv.weight)
    pieces = MisConv2d.from_conv(conv, chunk=chunk)(mfa)
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(torch.autograd.grad(pieces.square().sum(), conv.weight), wanted)


@pytest.mark.slow
def test_compiling_is_irrelevant():
    mfa, conv = random_mfa(5, 2, 2, SHAPE, dtype=torch.float32), convolution(dtype=torch.float32)
    outputs, gradients = [], []
    for compiled in (False, True):
        out = MisConv2d.from_conv(conv, compiled=compiled, chunk=None)(mfa)
        outputs.append(out)
        gradients.append(torch.autograd.grad(out.square().sum(), conv.weight)[0])
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


def test_mixed_precision_leaves_the_mixture_algebra_alone():
    mfa, layer = random_mfa(2, 2, 2, SHAPE, dtype=torch.float32), MisConv2d(2, 4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found, (m, v) = layer(mfa), layer.moments(mfa)
    assert torch.equal(found, layer(mfa))
    assert m.dtype == v.dtype == torch.float32


def test_from_conv_shares_the_parameters():
    conv = convolution()
    layer = MisConv2d.from_conv(conv)
    assert layer.weight is conv.weight and layer.bias is conv.bias
    assert layer.state_dict().keys() == conv.state_dict().keys()
    assert all(parameter.device.type == "cpu" for parameter in layer.parameters())
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.fill_(0.5)
    assert (layer(random_mfa(1, 1, 1, SHAPE)) == 0.5).all()


def test_a_copy_has_weights_of_its_own():
    layer, mfa = MisConv2d.from_conv(convolution()), random_mfa(1, 1, 1, SHAPE)
    twin = copy.deepcopy(layer)
    wanted = layer(mfa).detach().clone()
    with torch.no_grad():
        layer.weight.mul_(2)
    assert torch.equal(twin(mfa), wanted) and not torch.equal(layer(mfa), wanted)


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "tanh"}, "activation='tanh' is none of relu"),
        ({"formula": "best"}, "formula='best' is none of exact, paper, authors"),
        ({"formula": "paper", "activation": "gelu"}, "published for activation='relu' only"),
        ({"padding": 1, "padding_mode": "reflect"}, "padding_mode='reflect' repeats pixels"),
        ({"padding": 1, "padding_mode": "replicate"}, "padding_mode='replicate' repeats pixels"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MisConv2d(2, 4, 3, **options)


def test_circular_windows_wider_than_the_image_are_refused():
    """A pixel that occurs twice in one window would have to be counted (w1 + w2)^2, not w1^2 + w2^2."""
    layer = MisConv2d(2, 1, 3, padding=1, padding_mode="circular")
    with pytest.raises(ValueError, match="wider than the image"):
        layer(random_mfa(1, 1, 1, (2, 4, 2)))
    layer(random_mfa(1, 1, 1, (2, 4, 3)))
