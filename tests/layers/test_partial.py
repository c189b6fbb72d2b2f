"""PartialConv2d against the definition written as loops, and the printed edge ratios."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lacuna.layers.partial import PartialConv2d
from tests.dense import random_images, random_mask

SHAPE = (3, 7, 6)


def by_loops(layer: PartialConv2d, x: Tensor, mask: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(W * (x o M)) N / S + b over every window; all zeros, and False, where S = 0."""
    weight = layer.weight.detach().double().numpy()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().numpy()
    out_channels, per_group, kh, kw = weight.shape
    (ph, pw), (sh, sw), (dh, dw) = layer.padding, layer.stride, layer.dilation
    valid = mask.expand_as(x).numpy()
    image = np.pad(np.where(valid, x.double().numpy(), 0), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    valid = np.pad(valid, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    height = (image.shape[2] - dh * (kh - 1) - 1) // sh + 1
    width = (image.shape[3] - dw * (kw - 1) - 1) // sw + 1
    out = np.zeros((len(x), out_channels, height, width))
    output_mask = np.zeros((len(x), 1, height, width), bool)
    for b, y, z in np.ndindex(len(x), height, width):
        rows = slice(y * sh, y * sh + dh * (kh - 1) + 1, dh)
        columns = slice(z * sw, z * sw + dw * (kw - 1) + 1, dw)
        window, there = image[b, :, rows, columns], valid[b, :, rows, columns]
        if not there.any():
            continue
        output_mask[b, 0, y, z] = True
        for o in range(out_channels):
            first = o * layer.groups // out_channels * per_group
            raw = (weight[o] * window[first : first + per_group]).sum()
            out[b, o, y, z] = raw * there.size / there.sum() + bias[o]
    return out, output_mask


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "bias": False},
        {"kernel_size": (2, 3), "stride": 2},
        {"kernel_size": 3, "padding": (2, 1), "dilation": 2},
        {"kernel_size": 3, "padding": 1, "groups": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("per_channel", [False, True])
def test_agrees_with_loops(options, per_channel):
    if per_channel and options.get("groups", 1) > 1:
        pytest.skip("is not defined")
    torch.manual_seed(0)
    layer = PartialConv2d(3, 6, dtype=torch.float64, **options)
    x, mask = random_images(3, SHAPE), random_mask(3, SHAPE, per_channel=per_channel)
    mask[0, :, :5, :5] = False  # windows without anything observed
    out, output_mask = layer.with_mask(x, mask)
    wanted, wanted_mask = by_loops(layer, x, mask)
    np.testing.assert_allclose(out.detach().numpy(), wanted, atol=1e-12)
    np.testing.assert_array_equal(output_mask.numpy(), wanted_mask)
    assert not wanted_mask.all()
    assert torch.equal(layer(x, mask), out)


def test_edges_of_a_complete_image():
    """reference/baselines.md 3: zero padding counts as missing, so 1.5 at edges and 2.25 at corners for 3x3."""
    layer = PartialConv2d(1, 1, 3, padding=1, bias=False)
    torch.nn.init.ones_(layer.weight)
    everything = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    raw = torch.nn.functional.conv2d(torch.ones(1, 1, 5, 5), layer.weight, padding=1)
    ratio = (layer(torch.ones(1, 1, 5, 5), everything) / raw)[0, 0]
    wanted = torch.ones(5, 5)
    wanted[[0, -1]] *= 1.5
    wanted[:, [0, -1]] *= 1.5
    torch.testing.assert_close(ratio, wanted)
    assert ratio[0, 0].item() == pytest.approx(2.25)


def test_one_valid_pixel_of_nine_is_amplified_nine_times():
    layer = PartialConv2d(3, 2, 3, bias=False)
    mask = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    mask[..., 1, 1] = True
    x = torch.rand(1, 3, 3, 3)
    torch.testing.assert_close(layer(x, mask).flatten(), 9 * layer.weight[:, :, 1, 1] @ x[0, :, 1, 1])


def test_without_padding_a_complete_image_is_convolved_as_usual():
    layer, x = PartialConv2d(3, 4, 3), torch.rand(2, *SHAPE)
    wanted = torch.nn.functional.conv2d(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x, torch.ones(2, 1, *SHAPE[1:], dtype=torch.bool)), wanted)


def test_where_nothing_is_observed_the_output_is_zero():
    layer = PartialConv2d(3, 4, 3, padding=1)
    out, output_mask = layer.with_mask(
        torch.full((1, *SHAPE), float("nan")), torch.zeros(1, 1, *SHAPE[1:], dtype=torch.bool)
    )
    assert (out == 0).all() and not output_mask.any()


@pytest.mark.parametrize("per_channel", [False, True])
def test_missing_values_do_not_matter(per_channel):
    layer, x = PartialConv2d(3, 4, 3), random_images(2, SHAPE).float()
    mask = random_mask(2, SHAPE, per_channel=per_channel)
    found = layer(torch.where(mask, x, float("nan")), mask)
    assert torch.equal(found, layer(x, mask))
    found.sum().backward()
    assert layer.weight.grad.isfinite().all()


def test_a_mask_shared_by_the_channels_and_repeated_for_each_are_the_same():
    layer, x, mask = PartialConv2d(3, 4, 3, padding=1), random_images(2, SHAPE).float(), random_mask(2, SHAPE)
    torch.testing.assert_close(layer(x, mask), layer(x, mask.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    """The published epsilon of 1e-8 rounds to 0 here, and 0 * (N / 0) would be NaN."""
    torch.manual_seed(0)
    layer, x, mask = PartialConv2d(3, 4, 3, padding=1), random_images(2, SHAPE).float(), random_mask(2, SHAPE)
    mask[0, :, :5, :5] = False
    wanted = layer(x, mask)
    found = layer.to(dtype)(x.to(dtype), mask)
    assert found.dtype == dtype and found.isfinite().all()
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = layer.float()(x, mask)
    torch.testing.assert_close(mixed.float(), wanted, atol=0.05, rtol=0.05)


def test_calls_are_independent():
    layer, x = PartialConv2d(3, 4, 3, padding=1), torch.rand(1, *SHAPE)
    one, two = random_mask(2, SHAPE).split(1)
    wanted = layer(x, one)
    layer(x, two)
    assert torch.equal(layer(x, one), wanted)
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_undefined_cases_are_refused():
    with pytest.raises(ValueError, match="padding_mode='circular'"):
        PartialConv2d(3, 4, 3, padding=1, padding_mode="circular")
    layer = PartialConv2d(3, 3, 3, groups=3)
    with pytest.raises(ValueError, match="groups > 1 is not defined"):
        layer(torch.rand(1, *SHAPE), torch.ones(1, *SHAPE, dtype=torch.bool))
