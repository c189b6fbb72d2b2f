"""Partial convolution (Liu et al. 2018): a convolution renormalised over the observed part of its window."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PartialConv2d(nn.Conv2d):
    """out = (W * (x o M)) N / S + b with S = observed entries in the window, N = entries of the window.

    Zero padding counts as missing, as published. Where nothing is observed the output is 0, without bias.
    No activation. Stateless: masks are not kept between calls.

    Shape:
        x (B, C, H, W), mask bool (B, 1, H, W) or (B, C, H, W) -> (B, out_channels, H', W').

    Raises:
        ValueError: a padding mode other than zeros, or a per-channel mask with groups > 1, for which the published
            formula is not defined.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        if self.padding_mode != "zeros":
            raise ValueError(f"padding_mode={self.padding_mode!r}: partial convolution is defined for zero padding.")

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """The renormalised convolution; ``x`` is read only where ``mask`` is True = observed."""
        return self.with_mask(x, mask)[0]

    def with_mask(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, with the output mask (B, 1, H', W'): True where the window has an observed pixel."""
        if self.groups > 1 and mask.shape[1] > 1:
            raise ValueError("A per-channel mask with groups > 1 is not defined; use a mask (B, 1, H, W).")
        with torch.no_grad():
            window = self.weight.new_ones(1, mask.shape[1], *self.kernel_size)
            valid = functional.conv2d(mask.to(x.dtype), window, None, self.stride, self.padding, self.dilation)
            # counts are integers, so clamping at 1 is exact, and safe in half precision (adding 1e-8 is not)
            ratio = window.numel() / valid.clamp(min=1)
            output_mask = valid > 0
        raw = self._conv_forward(torch.where(mask, x, 0), self.weight, None)
        out = raw * ratio
        if self.bias is not None:
            out = out + self.bias.view(1, -1, 1, 1)
        return out * output_mask, output_mask
