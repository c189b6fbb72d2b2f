"""ACFlow: one flow for p(target | observed) of any target and any observed pixels (Li et al. 2020).

As in the public code for images, values are not sorted or gathered: tensors keep the image's shape, observed values
pass through every layer, and sums run over the target values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lacuna.errors import LacunaError
from lacuna.flows.base import Condition
from lacuna.flows.coupling import CheckerCoupling
from lacuna.flows.logit import Logit
from lacuna.flows.multiscale import MultiScale, check_sides
from lacuna.mfa import full_precision
from lacuna.nets.coupling_net import UnitConv2d
from lacuna.registry import build

SAMPLING_BATCH = 1024
"""Images that are sampled in one pass; more only take more memory."""


class ACFlow(nn.Module):
    """p(target | observed) of images by a multi-scale flow to a standard normal distribution.

    Every value of an image is *observed* (conditioned on), *target* (modelled; by default all values that are not
    observed) or missing (never read). The flow can therefore be trained on incomplete images, with observed pixels that
    are held out as the target.

    Two differences from the public code: Observed values are conditioned on at the centres of their bins (there with
    new noise in every call, so that even its point estimate is random). Padding is always observed (there it may be
    target as well).

    Args:
        shape: (C, H, W) of the images.
        net: spec of the networks (``nets/coupling_net.py``).
        scales: number of scales. width: of the networks at the finest; see :class:`lacuna.flows.multiscale.MultiScale`.
        pad: observed black pixels on each side of the image, for sides that cannot be halved often enough.
        levels, constraint: of the grey levels; see :class:`lacuna.flows.logit.Logit`.
        context: give every coupling all observed values and the mask, at every scale. As published a coupling reads
            only the observed pixels of its own scale, half as many as at the next finer one, and no mask.
        decay: weight decay of the gains of the networks and of the alphas of checkerboard couplings.
        mse_weight: weight in the loss of the point estimate's squared error (sum over an image); 0 in all published
            configs.

    Raises:
        LacunaError: a value is out of its range, or the sides cannot be halved so often.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        net: Mapping[str, Any],
        scales: int,
        width: int,
        pad: int = 0,
        levels: int = 256,
        constraint: float = 0.9,
        context: bool = False,
        decay: float = 5e-5,
        mse_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(pad, int) or pad < 0:
            raise LacunaError(f"flow.pad={pad} must be a whole number of at least 0.")
        if decay < 0 or mse_weight < 0:
            raise LacunaError(f"flow.decay={decay} and flow.mse_weight={mse_weight} must not be negative.")
        channels, height, width_ = shape
        check_sides((height + 2 * pad, width_ + 2 * pad), scales)

        def make(in_channels: int, out_channels: int, width: int) -> nn.Module:
            made: nn.Module = build("net", net, in_channels=in_channels, out_channels=out_channels, width=width)
            return made

        self.flow = MultiScale(channels, scales, width, make, 2 * channels if context else 0)
        self.logit = Logit(levels, constraint)
        self.shape, self.pad, self.context = tuple(shape), pad, context
        self.decay, self.mse_weight = decay, mse_weight

    def log_prob(
        self, x: Tensor, observed: Tensor, target: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """A lower bound of log p(target | observed) of the grey levels, (B,), in nats, from one draw of the noise.

        Args:
            x: (B,C,H,W) in [0, 1]; read only where observed or target.
            observed: bool, (B,1,H,W) or (B,C,H,W). target: the same; by default all values that are not observed.
            generator: of the dequantising noise.
        """
        with full_precision(x):
            values, condition = self._regions(x, observed, target)
            noise = torch.rand(values.shape, generator=generator, dtype=values.dtype, device=values.device)
            modelled = condition.target > 0
            y = torch.where(modelled, self.logit.dequantised(values, noise), self._observed_logits(values, condition))
        z, log_det = self.flow(y, self._with_context(condition, y))
        with full_precision(x):
            each = self.logit.log_det(y) - 0.5 * z.square() - 0.5 * math.log(2 * math.pi)
            found: Tensor = torch.where(modelled, each, 0).flatten(1).sum(1) + log_det
        return found

    def decode(self, z: Tensor, x: Tensor, observed: Tensor, target: Tensor | None = None) -> Tensor:
        """The image (B,C,H,W), in logits, whose target values have the latent values ``z`` (B, *latent_shape)."""
        with full_precision(x):
            values, condition = self._regions(x, observed, target)
            known = self._observed_logits(values, condition)
        y, _ = self.flow.inverse(torch.where(condition.target > 0, z, known), self._with_context(condition, known))
        return y if self.pad == 0 else y[..., self.pad : -self.pad, self.pad : -self.pad]

    def point_estimate(self, x: Tensor, observed: Tensor, target: Tensor | None = None) -> Tensor:
        """The published point estimate (B,C,H,W): the image whose latent values are 0. Differentiable.

        It is neither the mean nor the mode of p(target | observed); only ``mse_weight`` trains it to be the mean.
        """
        y = self.decode(x.new_zeros(len(x), *self.latent_shape), x, observed, target)
        return _combined(self.logit.image(y), x, observed, target)

    @torch.no_grad()
    def sample(
        self,
        x: Tensor,
        observed: Tensor,
        n: int,
        target: Tensor | None = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``n`` samples of each image, (n,B,C,H,W): grey levels in [0, 1] where target, 0 where missing.

        Args:
            x, observed, target: as for :meth:`log_prob`.
            temperature: standard deviation of the latent values.
            generator: of the latent values.
        """
        size = (n, len(x), *self.latent_shape)
        z = torch.randn(size, generator=generator, dtype=x.dtype, device=x.device) * temperature
        return _combined(self.logit.rounded(self._decoded(z, x, observed, target)), x, observed, target)

    @torch.no_grad()
    def mean(self, x: Tensor, observed: Tensor, n: int = 16, target: Tensor | None = None) -> Tensor:
        """The mean of ``n`` samples (B,C,H,W): an estimate of E[target | observed].

        Deterministic: the latent values are the same in every call and for every image, in antithetic pairs z, -z.
        """
        return self.moments(x, observed, n, target)[0]

    @torch.no_grad()
    def moments(self, x: Tensor, observed: Tensor, n: int = 16, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """:meth:`mean` and the variance of the same samples (B,C,H,W), which is 0 outside the target."""
        z = torch.randn((n - n // 2, *self.latent_shape), generator=torch.Generator().manual_seed(0)).to(x)
        z = torch.cat([z, -z])[:n, None].expand(n, len(x), *self.latent_shape)
        images = self.logit.image(self._decoded(z, x, observed, target))
        # observed and missing values are the same in all samples
        spread = torch.where(_regions_of(x, observed, target)[1], images.var(0, correction=0), 0)
        return _combined(images.mean(0), x, observed, target), spread

    def loss(self, x: Tensor, observed: Tensor, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """-log p(target | observed) in nats per *image*, mean over the batch (as published), plus the penalties.

        As published ``observed`` is a random mask of a complete image and ``target`` the rest. On incomplete images
        both are parts of the observed pixels; missing pixels belong to neither.
        """
        loss = -self.log_prob(x, observed, target, generator).mean()
        if self.decay:
            loss = loss + self.decay * self.penalised().square().sum()
        if self.mse_weight:
            errors = torch.where(target, self.point_estimate(x, observed, target) - x, 0)
            loss = loss + self.mse_weight * errors.square().flatten(1).sum(1).mean()
        return loss

    def penalised(self) -> Tensor:
        """The parameters that ``decay`` penalises, one vector: all gains and, as published, checkerboard alphas."""
        gains = [m.gain.flatten() for m in self.modules() if isinstance(m, UnitConv2d) and m.gain is not None]
        return torch.cat(gains + [m.alpha.flatten() for m in self.modules() if isinstance(m, CheckerCoupling)])

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, H + 2 pad, W + 2 pad)."""
        channels, height, width = self.shape
        return channels, height + 2 * self.pad, width + 2 * self.pad

    def _regions(self, x: Tensor, observed: Tensor, target: Tensor | None) -> tuple[Tensor, Condition]:
        """Padded values, 0 where missing, and the condition, still without context."""
        observed, target = _regions_of(x, observed, target)
        values = torch.where(observed | target, x, 0)
        frame = (self.pad,) * 4
        padded = functional.pad(observed.to(x.dtype), frame, value=1.0)
        return functional.pad(values, frame), Condition(padded, functional.pad(target.to(x.dtype), frame))

    def _observed_logits(self, values: Tensor, condition: Condition) -> Tensor:
        """The logits of observed values, 0 elsewhere."""
        return torch.where(condition.observed > 0, self.logit.centred(values), 0)

    def _with_context(self, condition: Condition, y: Tensor) -> Condition:
        """The condition with its context, if the flow has one: the observed values of ``y`` and the mask."""
        if not self.context:
            return condition
        return condition._replace(context=torch.cat([y * condition.observed, condition.observed], 1))

    def _decoded(self, z: Tensor, x: Tensor, observed: Tensor, target: Tensor | None) -> Tensor:
        """:meth:`decode` for z (n,B,C,H',W'), a bounded number of images at once."""
        each = max(1, SAMPLING_BATCH // max(1, len(x)))
        parts = []
        for some in z.split(each):
            many = [None if t is None else t.repeat(len(some), 1, 1, 1) for t in (x, observed, target)]
            assert many[0] is not None and many[1] is not None
            parts.append(self.decode(some.flatten(0, 1), many[0], many[1], many[2]).unflatten(0, (len(some), len(x))))
        return torch.cat(parts)


def _regions_of(x: Tensor, observed: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor]:
    """The observed and the target mask in the shape of ``x``, nowhere both True."""
    observed = observed.expand_as(x)
    return observed, ~observed if target is None else target.expand_as(x) & ~observed


def _combined(values: Tensor, x: Tensor, observed: Tensor, target: Tensor | None) -> Tensor:
    """``values`` where target, ``x`` where observed, bit-identical, and 0 where missing."""
    observed, target = _regions_of(x, observed, target)
    return torch.where(target, values, torch.where(observed, x, 0))
