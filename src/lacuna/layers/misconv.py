"""MisConv: the first convolution of a CNN, applied to a distribution over images instead of one image.

The layer returns E[f(conv(Z))], the expected activation over the density of the missing pixels (MisConv, section 3,
algorithm 1). If no pixel is missing it is exactly f(conv(x)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.layers.expected import ACTIVATIONS, PUBLISHED_RELU
from lacuna.mfa import MFA, full_precision

FORMULAS = ("exact", "paper", "authors")


class MisConv2d(nn.Conv2d):
    """Expected activation of a convolution over a mixture of factor analysers.

    Per output and component, m = W*mean + b and v = (W o W)*noise + sum_j (W*factor_j)^2; the result is
    sum_k p_k E[f(N(m_k, v_k))]. Takes every argument of :class:`torch.nn.Conv2d`, and its weights.

    Args:
        activation: ``relu``, ``leaky_relu``, ``gelu`` or ``identity``.
        formula: ``exact`` (the expectation); ``paper`` (equations 3 and 4 as printed: noise convolved with W, a
            quarter of the Gaussian term; 0 where that "variance" is negative); ``authors`` (their code: bias inside
            the variance, no gradient through W o W, half of the Gaussian term, and observed pixels used only at
            output positions whose centre is observed in the first channel; it needs ``observed`` and ``mask`` and a
            density that is *not* pinned).
        chunk: images processed at a time on the CPU, so that intermediates fit into the cache; None: all at once.
        compiled: fuse each chunk with ``torch.compile`` (needs a C++ compiler on the CPU; the first call is slow).

    Shape:
        MFA over (B, C, H, W) -> (B, out_channels, H', W').

    Raises:
        ValueError: an unknown activation or formula, a published formula with another activation than ReLU, or
            padding that repeats pixels inside a window (reflect, replicate; circular where the window is wider than
            the image), where v is not a convolution.
    """

    def __init__(
        self,
        *args: Any,
        activation: str = "relu",
        formula: str = "exact",
        chunk: int | None = 8,
        compiled: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is none of {', '.join(ACTIVATIONS)}.")
        if formula not in FORMULAS:
            raise ValueError(f"formula={formula!r} is none of {', '.join(FORMULAS)}.")
        if formula != "exact" and activation != "relu":
            raise ValueError(f"formula={formula!r} is published for activation='relu' only.")
        if self.padding_mode not in ("zeros", "circular"):
            raise ValueError(f"padding_mode={self.padding_mode!r} repeats pixels inside a window; use 'zeros'.")
        self.activation, self.formula, self.chunk = activation, formula, chunk
        self._step: Callable[..., Tensor] = self._expected
        if compiled:
            self._step = torch.compile(self._expected)

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, **options: Any) -> MisConv2d:
        """A layer with the parameters of a (trained) convolution, shared, not copied."""
        layer = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            device="meta",
            **options,
        )
        layer.weight, layer.bias = conv.weight, conv.bias
        return layer

    def forward(  # type: ignore[override]
        self, density: MFA, observed: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Expected activation; only ``authors`` uses ``observed`` (B,C,H,W) and ``mask`` (True = observed).

        Raises:
            ValueError: ``authors`` without ``observed`` and ``mask``, or with an output of another size than the input.
        """
        centred = self.formula == "authors"
        if centred and (observed is None or mask is None):
            raise ValueError("formula='authors' mixes by position: call the layer with observed and mask.")
        with full_precision(density.mean):
            mfa = density.to(self.weight.dtype)
            parts = (mfa.weights, mfa.mean, mfa.factors, mfa.noise)
            if not centred:
                return self._in_chunks(*parts)
            assert observed is not None and mask is not None
            zero_imputed = torch.where(mask, observed, 0).to(self.weight.dtype)
            return self._in_chunks(*parts, zero_imputed, mask[:, :1].expand(len(observed), -1, -1, -1))

    def _in_chunks(self, *parts: Tensor) -> Tensor:
        """Apply the step to the arguments, each (B, ...), a few images at a time."""
        size = self.chunk if self.chunk and parts[0].device.type == "cpu" else len(parts[0])
        if size >= len(parts[0]):
            return self._step(*parts)
        pieces = zip(*(part.split(size) for part in parts), strict=True)
        return torch.cat([self._step(*piece) for piece in pieces])

    def _expected(
        self,
        weights: Tensor,
        mean: Tensor,
        factors: Tensor,
        noise: Tensor,
        zero_imputed: Tensor | None = None,
        centre: Tensor | None = None,
    ) -> Tensor:
        """Expected activation; that of ``zero_imputed`` where ``centre`` (B,1,H,W), if they are given (authors)."""
        m, v = self._moments(mean, factors, noise)
        if zero_imputed is not None and centre is not None:
            plain = self._conv_forward(zero_imputed, self.weight, self.bias)
            if plain.shape[2:] != centre.shape[2:]:
                raise ValueError("formula='authors' needs an output of the size of the input.")
            # Without variance, the formula is ReLU.
            m, v = torch.where(centre[:, None], plain[:, None], m), v * ~centre[:, None]
        name = self.formula if self.formula in PUBLISHED_RELU else self.activation
        activation = (ACTIVATIONS | PUBLISHED_RELU)[name](m, v)
        if weights.shape[1] == 1:
            return activation.squeeze(1)
        return torch.einsum("bk,bkohw->bohw", weights, activation)

    def moments(self, density: MFA) -> tuple[Tensor, Tensor]:
        """Mean and variance of conv(Z) per component, each (B, K, out_channels, H', W'), in the weights' type."""
        with full_precision(density.mean):
            density = density.to(self.weight.dtype)
            return self._moments(density.mean, density.factors, density.noise)

    def _moments(self, mean: Tensor, factors: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        batch, k, rank = factors.shape[:3]
        if self.padding_mode == "circular":
            reach = (d * (size - 1) for d, size in zip(self.dilation, self.kernel_size, strict=True))
            if any(r >= size for r, size in zip(reach, mean.shape[-2:], strict=True)):
                raise ValueError("padding_mode='circular' repeats pixels where the window is wider than the image.")
        squared = self.weight.square()
        m = self._conv_forward(mean.flatten(0, 1), self.weight, self.bias)
        if self.formula == "authors":
            bias = None if self.bias is None else self.bias.detach().square()
            v = self._conv_forward(noise.flatten(0, 1), squared.detach(), bias)
        else:
            v = self._conv_forward(noise.flatten(0, 1), self.weight if self.formula == "paper" else squared, None)
        if rank:
            bias = self.bias if self.formula == "authors" else None
            a = self._conv_forward(factors.flatten(0, 2), self.weight, bias)
            v = v + a.unflatten(0, (batch * k, rank)).square().sum(1)
        if self.formula == "paper":  # negative weights can make this "variance" negative, which has no root
            v = v.clamp(min=0)
        return m.unflatten(0, (batch, k)), v.unflatten(0, (batch, k))

    def extra_repr(self) -> str:
        """The arguments of the convolution, the activation and the formula."""
        plain: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{plain}, activation={self.activation}, formula={self.formula}"
