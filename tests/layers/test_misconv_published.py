"""The two published versions of MisConv, kept for comparison, against their formulas written out in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special
from torch import nn
from torch.nn import functional

from lacuna.layers.misconv import MisConv2d
from lacuna.mfa import MFA
from tests.dense import random_images, random_mask, random_mfa

SHAPE = (2, 6, 5)


def convolution(stride: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(2, 4, 3, stride=stride, padding=1, dtype=torch.float64)


def padded(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((0, 0), (1, 1), (1, 1)))


def correlate(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A 3x3 convolution, padding 1, stride 1, by plain loops: image (C,H,W), weight (O,C,3,3) -> (O,H,W)."""
    source, (_, height, width) = padded(image), image.shape
    out = np.zeros((len(weight), height, width))
    for y in range(height):
        for x in range(width):
            out[:, y, x] = (weight * source[None, :, y : y + 3, x : x + 3]).sum((1, 2, 3))
    return out


def published_relu(m: np.ndarray, v: np.ndarray, share: float) -> np.ndarray:
    s = np.sqrt(v)
    return m / 2 * (1 + special.erf(m / (s * np.sqrt(2)))) + share * s / np.sqrt(2 * np.pi) * np.exp(-(m**2) / (2 * v))


def numbers(mfa: MFA, row: int) -> tuple[np.ndarray, ...]:
    parts = (mfa.weights, mfa.mean, mfa.factors, mfa.noise)
    return tuple(part[row].detach().numpy() for part in parts)


def test_authors_formula_is_their_code():
    """misconv.md 3.1: the bias inside both variance terms, half of the Gaussian term, mixing by position."""
    conv, x = convolution(), random_images(2, SHAPE)
    mask = random_mask(2, SHAPE, per_channel=True)
    mfa = random_mfa(2, 3, 2, SHAPE)
    found = MisConv2d.from_conv(conv, formula="authors")(mfa, torch.where(mask, x, float("nan")), mask)
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()[:, None, None]
    for i in range(2):
        expected = 0
        for p, mean, factors, noise in zip(*numbers(mfa, i), strict=True):
            v = correlate(noise, weight**2) + bias**2 + sum((correlate(a, weight) + bias) ** 2 for a in factors)
            expected = expected + p * published_relu(correlate(mean, weight) + bias, v, 0.5)
        observed = mask[i].numpy()
        plain = np.maximum(correlate(np.where(observed, x[i].numpy(), 0), weight) + bias, 0)
        np.testing.assert_allclose(found[i].detach().numpy(), np.where(observed[:1], plain, expected), atol=1e-12)


def test_authors_formula_cuts_the_gradient_of_the_noise_term():
    conv, x, mask = convolution(), random_images(2, SHAPE), random_mask(2, SHAPE)
    mfa = random_mfa(2, 1, 2, SHAPE)
    out = MisConv2d.from_conv(conv, formula="authors")(mfa, x, mask)
    found = torch.autograd.grad(out.sum(), (conv.weight, conv.bias))
    w, b = conv.weight, conv.bias
    fixed = functional.conv2d(mfa.noise[:, 0], w.detach().square(), b.detach().square(), padding=1)
    v = fixed + sum(functional.conv2d(mfa.factors[:, 0, j], w, b, padding=1).square() for j in range(2))
    m, s = functional.conv2d(mfa.mean[:, 0], w, b, padding=1), v.sqrt()
    bell = s / math.sqrt(2 * math.pi) * torch.exp(-(m**2) / (2 * v))
    value = 0.5 * (m + bell + m * torch.erf(m / (s * math.sqrt(2))))
    plain = functional.conv2d(x * mask, w, b, padding=1).relu()
    wanted = torch.autograd.grad(torch.where(mask, plain, value).sum(), (w, b))
    for a, c in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, c)


def test_size_of_the_authors_bias_error():
    """misconv.md 3.2: with PyTorch's initialisation their variance is some 130 to 220 times too large."""
    for channels, low, high in ((1, 100, 500), (3, 60, 300)):
        torch.manual_seed(0)
        conv = nn.Conv2d(channels, 256, 3, padding=1)
        shape = (1, 1, channels, 8, 8)
        factors = 0.04 * (torch.rand(1, 1, 4, channels, 8, 8) - 0.5)
        mfa = MFA(torch.zeros(1, 1), torch.rand(shape), factors, torch.full(shape, 1e-3))
        true = MisConv2d.from_conv(conv).moments(mfa)[1].mean()
        theirs = MisConv2d.from_conv(conv, formula="authors").moments(mfa)[1].mean()
        assert low < theirs / true < high


def test_paper_formula_is_that_of_equations_3_and_4():
    """The noise convolved with W itself, a quarter of the Gaussian term - where that variance is not negative."""
    conv, mfa = convolution(), random_mfa(2, 3, 2, SHAPE)
    found = MisConv2d.from_conv(conv, formula="paper")(mfa).detach()
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()[:, None, None]
    assert found.isfinite().all()
    for i in range(2):
        expected, defined, negative = 0, True, False
        for p, mean, factors, noise in zip(*numbers(mfa, i), strict=True):
            d = correlate(noise, weight)
            v = d + sum(correlate(a, weight) ** 2 for a in factors)
            with np.errstate(all="ignore"):
                expected = expected + p * published_relu(correlate(mean, weight) + bias, v, 0.25)
            defined, negative = defined & (v > 0), negative | (d < 0)
        assert (defined & negative).any(), "the example should hold negative noise terms outweighed by the factors"
        np.testing.assert_allclose(found[i].numpy()[defined], expected[defined], atol=1e-12)


@pytest.mark.parametrize("formula", ["paper", "authors"])
def test_published_formulas_return_negative_values(formula):
    mfa, layer = random_mfa(4, 1, 2, SHAPE), MisConv2d.from_conv(convolution(), formula=formula)
    assert (layer(mfa, random_images(4, SHAPE), random_mask(4, SHAPE)) < 0).any()


@pytest.mark.parametrize("formula", ["paper", "authors"])
def test_published_formulas_agree_on_complete_images(formula):
    conv, x, everything = convolution(), random_images(2, SHAPE), torch.ones(2, 1, *SHAPE[1:], dtype=torch.bool)
    mfa = random_mfa(2, 2, 2, SHAPE)
    layer = MisConv2d.from_conv(conv, formula=formula)
    out = layer(mfa if formula == "authors" else mfa.pin(x, everything), x, everything)
    torch.testing.assert_close(out, conv(x).relu())


def test_authors_formula_needs_the_image_and_the_size():
    mfa, x, mask = random_mfa(1, 1, 1, SHAPE), random_images(1, SHAPE), random_mask(1, SHAPE)
    with pytest.raises(ValueError, match="call the layer with observed and mask"):
        MisConv2d.from_conv(convolution(), formula="authors")(mfa)
    with pytest.raises(ValueError, match="output of the size of the input"):
        MisConv2d.from_conv(convolution(stride=2), formula="authors")(mfa, x, mask)
