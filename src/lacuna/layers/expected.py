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
    """m Phi(t) + s phi(t), t = m / s, with the derivatives dE/dm = Phi(t) and dE/dv = phi(t) / (2 s).

    Saving the two derivatives instead of the graph reduces the backward pass to two multiplications and avoids
    differences of infinities at v = 0.
    """

    @staticmethod
    def forward(ctx: Any, m: Tensor, v: Tensor) -> Tensor:
        # In-place throughout: passes over memory, not arithmetic, determine the time.
        # The floor is far below the variance of any pixel; tail and gradient at v = 0 are exact anyway.
        inverse = v.clamp(min=max(1e-30, torch.finfo(v.dtype).tiny)).rsqrt_()
        # beyond 13 standard deviations the tail is 0 in float32, and exp and erfc are many times slower there
        t = (m * inverse).abs_().clamp_(max=13.0)
        scaled_pdf = t.square().mul_(-0.5).exp_().mul_(inverse).mul_(INV_SQRT_2PI)  # phi(t) / s
        t = t.mul_(SQRT_HALF)
        # Phi(-|t|); compiled CPU code has no vectorised erfc, and 1 - erf differs only by rounding
        upper = 0.5 - 0.5 * torch.erf(t) if torch.compiler.is_compiling() else t.erfc_().mul_(0.5)
        # relu(m) + s phi - |m| Phi(-|t|): less cancellation than in m Phi + s phi
        value = (v * scaled_pdf).addcmul_(m.abs(), upper, value=-1).clamp_(min=0).add_(m.clamp(min=0))
        if any(ctx.needs_input_grad):
            uncertain = v > 0  # elsewhere the derivatives are those of ReLU, also at m = 0
            cdf = torch.where(m > 0, 1 - upper, upper * uncertain)
            ctx.save_for_backward(cdf, scaled_pdf.mul_(0.5).mul_(uncertain))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        cdf, half_scaled_pdf = ctx.saved_tensors
        return grads[0] * cdf, grads[0] * half_scaled_pdf


def relu(m: Tensor, v: Tensor) -> Tensor:
    """E[max(Z, 0)] = m Phi(m/s) + s phi(m/s), s = sqrt(v): never negative, ReLU(m) at v = 0."""
    return _ExpectedReLU.apply(m, v)  # type: ignore[no-any-return]


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


def _relu_with_gaussian_share(m: Tensor, v: Tensor, share: float) -> Tensor:
    """The published forms m Phi(m/s) + share * s phi(m/s), in which the factor of the second term is too small."""
    positive = v > 0
    s = torch.where(positive, v, 1).sqrt()
    t = m / s
    value = m * 0.5 * torch.erfc(-SQRT_HALF * t) + share * s * INV_SQRT_2PI * torch.exp(-0.5 * t * t)
    return torch.where(positive, value, m.clamp(min=0))


def relu_paper(m: Tensor, v: Tensor) -> Tensor:
    """Equation (4) as printed: a quarter of the Gaussian term. Can be negative; for comparison only."""
    return _relu_with_gaussian_share(m, v, 0.25)


def relu_authors(m: Tensor, v: Tensor) -> Tensor:
    """The authors' code: half of the Gaussian term. Can be negative; for comparison only."""
    return _relu_with_gaussian_share(m, v, 0.5)


ACTIVATIONS: dict[str, Formula] = {"relu": relu, "leaky_relu": leaky_relu, "identity": identity, "gelu": gelu}
PUBLISHED_RELU: dict[str, Formula] = {"paper": relu_paper, "authors": relu_authors}
