"""Closed forms of E[f(Z)] for Z ~ N(m, v): expected activations, elementwise.

``v = 0`` gives exactly ``f(m)``, with finite gradients. Source: MisConv, theorem 3.2. The printed formula and the
authors' code both differ from the exact expectation; they are available as the formulas ``paper`` and ``authors``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SQRT_HALF = math.sqrt(0.5)
INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)

Formula = Callable[[Tensor, Tensor], Tensor]


class _ExpectedReLU(torch.autograd.Function):
    """m Phi(t) + c s phi(t), t = m / s, for a share c of the Gaussian term: 1 is the expectation, less was published.

    The derivatives are dE/dm = Phi(t) + (1 - c) t phi(t) and dE/dv = (c - (1 - c) t^2) phi(t) / (2 s). Saving them
    instead of the graph reduces the backward pass to two multiplications and avoids differences of infinities at v = 0.
    """

    @staticmethod
    def forward(ctx: Any, m: Tensor, v: Tensor, share: float) -> Tensor:
        # In-place throughout: passes over memory, not arithmetic, determine the time.
        # The floor is far below the variance of any pixel; tail and gradient at v = 0 are exact anyway.
        inverse = v.clamp(min=max(1e-30, torch.finfo(v.dtype).tiny)).rsqrt_()
        # beyond 13 standard deviations the tail is 0 in float32, and exp and erfc are many times slower there
        t = (m * inverse).abs_().clamp_(max=13.0)
        scaled_pdf = t.square().mul_(-0.5).exp_().mul_(inverse).mul_(INV_SQRT_2PI)  # phi(t) / s
        differentiated = any(ctx.needs_input_grad)
        if differentiated and share != 1:
            half = t.square().mul_((share - 1) / 2).add_(share / 2)
        t = t.mul_(SQRT_HALF)
        # Phi(-|t|); compiled CPU code has no vectorised erfc, and 1 - erf differs only by rounding
        upper = 0.5 - 0.5 * torch.erf(t) if torch.compiler.is_compiling() else t.erfc_().mul_(0.5)
        # relu(m) + c s phi - |m| Phi(-|t|): less cancellation than in m Phi + c s phi
        value = v * scaled_pdf
        if share == 1:
            value.addcmul_(m.abs(), upper, value=-1).clamp_(min=0)  # it is negative by rounding only
        else:
            value.mul_(share).addcmul_(m.abs(), upper, value=-1)
        if differentiated:
            uncertain = v > 0  # elsewhere the derivatives are those of ReLU, also at m = 0
            of_mean = torch.where(m > 0, 1 - upper, upper * uncertain)
            scaled_pdf.mul_(uncertain)
            if share == 1:
                scaled_pdf.mul_(0.5)
            else:
                of_mean.addcmul_(m, scaled_pdf, value=1 - share)
                scaled_pdf.mul_(half)
            ctx.save_for_backward(of_mean, scaled_pdf)
        return value.add_(m.clamp(min=0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        of_mean, of_variance = ctx.saved_tensors
        return grads[0] * of_mean, grads[0] * of_variance, None


def relu(m: Tensor, v: Tensor) -> Tensor:
    """E[max(Z, 0)] = m Phi(m/s) + s phi(m/s), s = sqrt(v): never negative, ReLU(m) at v = 0."""
    return _ExpectedReLU.apply(m, v, 1.0)  # type: ignore[no-any-return]


def leaky_relu(m: Tensor, v: Tensor, slope: float = 0.01) -> Tensor:
    """E[LeakyReLU(Z)] = slope m + (1 - slope) E[ReLU(Z)]."""
    return slope * m + (1 - slope) * relu(m, v)


def identity(m: Tensor, v: Tensor) -> Tensor:
    """E[Z] = m."""
    return m


def gelu(m: Tensor, v: Tensor) -> Tensor:
    """E[Z Phi(Z)] = m Phi(m/r) + (v/r) phi(m/r), r = sqrt(1 + v) (Stein's lemma); GELU(m) at v = 0."""
    inverse = (1 + v).rsqrt()
    t = m * inverse
    pdf = torch.exp(-0.5 * t * t) * INV_SQRT_2PI
    return m * 0.5 * torch.erfc(-SQRT_HALF * t) + v * inverse * pdf


def relu_paper(m: Tensor, v: Tensor) -> Tensor:
    """Equation (4) as printed: a quarter of the Gaussian term. Can be negative; for comparison only."""
    return _ExpectedReLU.apply(m, v, 0.25)  # type: ignore[no-any-return]


def relu_authors(m: Tensor, v: Tensor) -> Tensor:
    """The authors' code: half of the Gaussian term. Can be negative; for comparison only."""
    return _ExpectedReLU.apply(m, v, 0.5)  # type: ignore[no-any-return]


ACTIVATIONS: dict[str, Formula] = {"relu": relu, "leaky_relu": leaky_relu, "identity": identity, "gelu": gelu}
PUBLISHED_RELU: dict[str, Formula] = {"paper": relu_paper, "authors": relu_authors}
