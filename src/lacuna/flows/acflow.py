"""ACFlow: one flow for p(hidden | observed) of any hidden and any observed pixels (Li et al. 2020).

As in the public code for images: nothing is sorted or indexed; tensors keep their shape, observed values pass through
every layer, and sums go over the hidden values.
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

AT_ONCE = 1024
"""Images that are sampled in one pass; more of them only take more memory."""


class ACFlow(nn.Module):
    """p(hidden | observed) of images by a multi-scale flow to a standard normal distribution.

    The images are given by their values, by which of them are *observed* (conditioned on) and by which are *hidden*
    (modelled, by default all others). What is neither is missing and never read, so that the flow can be trained on
    incomplete images: hide some of the observed pixels on purpose.

    Unlike in the public code, observed values are told from the centres of their bins (there with new noise in every
    call, so that even the best guess is random), and padding is always observed (there masks may hide and score it).

    Args:
        shape: (C, H, W) of the images.
        net: spec of the networks (``nets/coupling_net.py``).
        scales: of the layout. width: of its first networks; see :class:`lacuna.flows.multiscale.MultiScale`.
        pad: black pixels around the image, told as observed, for sides that cannot be halved often enough.
        levels, constraint: of the grey levels; see :class:`lacuna.flows.logit.Logit`.
        context: show every coupling all observed values and the mask, at every scale. As published they see only what
            the layout lets through: a share of the observed pixels that halves with every scale, and no mask.
        decay: weight of the squares of the networks' gains and the checkerboard couplings' alphas in the loss.
        mse_weight: weight of the best guess' squared error (sum over an image) in the loss; 0 in all published configs.

    Raises:
        LacunaError: a value out of its range, or sides that cannot be halved so often.
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

        def make(before: int, after: int, inside: int) -> nn.Module:
            made: nn.Module = build("net", net, before=before, after=after, width=inside)
            return made

        self.flow = MultiScale(channels, scales, width, make, 2 * channels if context else 0)
        self.logit = Logit(levels, constraint)
        self.shape, self.pad, self.context = tuple(shape), pad, context
        self.decay, self.mse_weight = decay, mse_weight

    def log_prob(
        self, x: Tensor, observed: Tensor, hidden: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """A lower bound of log p(hidden | observed) of the grey levels, in nats, (B,): of one draw of their noise.

        Args:
            x: (B,C,H,W) in [0, 1]; read only where observed or hidden.
            observed: bool, (B,1,H,W) or (B,C,H,W). hidden: the same; by default all that is not observed.
            generator: of the noise.
        """
        with full_precision(x):
            values, condition = self._regions(x, observed, hidden)
            noise = torch.rand(values.shape, generator=generator, dtype=values.dtype, device=values.device)
            scored = condition.hidden > 0
            y = torch.where(scored, self.logit.spread(values, noise), self._told(values, condition))
        z, log_det = self.flow(y, self._informed(condition, y))
        with full_precision(x):
            each = self.logit.log_det(y) - 0.5 * z.square() - 0.5 * math.log(2 * math.pi)
            found: Tensor = torch.where(scored, each, 0).flatten(1).sum(1) + log_det
        return found

    def decode(self, z: Tensor, x: Tensor, observed: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The image (B,C,H,W), in logits, whose hidden values have the latent values ``z``, :meth:`latent_shape`."""
        with full_precision(x):
            values, condition = self._regions(x, observed, hidden)
            told = self._told(values, condition)
        y, _ = self.flow.inverse(torch.where(condition.hidden > 0, z, told), self._informed(condition, told))
        return y if self.pad == 0 else y[..., self.pad : -self.pad, self.pad : -self.pad]

    def guess(self, x: Tensor, observed: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The published "best guess" (B,C,H,W): the image whose latent values are 0. Differentiable.

        It is neither the mean nor the mode of p(hidden | observed), and only ``mse_weight`` ties it to the former.
        """
        y = self.decode(x.new_zeros(len(x), *self.latent_shape), x, observed, hidden)
        return _pasted(self.logit.image(y), x, observed, hidden)

    @torch.no_grad()
    def sample(
        self,
        x: Tensor,
        observed: Tensor,
        n: int,
        hidden: Tensor | None = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``n`` completions of each image, (n,B,C,H,W): grey levels in [0, 1] where hidden, 0 where missing.

        Args:
            x, observed, hidden: as for :meth:`log_prob`.
            temperature: standard deviation of the latent values.
            generator: of the latent values.
        """
        size = (n, len(x), *self.latent_shape)
        z = torch.randn(size, generator=generator, dtype=x.dtype, device=x.device) * temperature
        return _pasted(self.logit.rounded(self._decoded(z, x, observed, hidden)), x, observed, hidden)

    @torch.no_grad()
    def mean(self, x: Tensor, observed: Tensor, n: int = 16, hidden: Tensor | None = None) -> Tensor:
        """The mean of ``n`` completions (B,C,H,W): an estimate of E[hidden | observed].

        Not random: the latent values are the same in every call and for every image, and come in pairs z, -z.
        """
        return self.moments(x, observed, n, hidden)[0]

    @torch.no_grad()
    def moments(self, x: Tensor, observed: Tensor, n: int = 16, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """:meth:`mean` and the variance of the same completions (B,C,H,W), 0 where nothing is hidden."""
        z = torch.randn((n - n // 2, *self.latent_shape), generator=torch.Generator().manual_seed(0)).to(x)
        z = torch.cat([z, -z])[:n, None].expand(n, len(x), *self.latent_shape)
        images = self.logit.image(self._decoded(z, x, observed, hidden))
        # observed and missing values are the same in all completions
        spread = torch.where(_full(x, observed, hidden)[1], images.var(0, correction=0), 0)
        return _pasted(images.mean(0), x, observed, hidden), spread

    def loss(self, x: Tensor, observed: Tensor, hidden: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """-log p(hidden | observed) in nats per *image*, mean of the batch (as published), and the penalties.

        Published: ``observed`` a random mask of a complete image, ``hidden`` the rest. On incomplete images both lie
        within what is there, and what is missing is in neither.
        """
        loss = -self.log_prob(x, observed, hidden, generator).mean()
        if self.decay:
            loss = loss + self.decay * self.penalised().square().sum()
        if self.mse_weight:
            errors = torch.where(hidden, self.guess(x, observed, hidden) - x, 0)
            loss = loss + self.mse_weight * errors.square().flatten(1).sum(1).mean()
        return loss

    def penalised(self) -> Tensor:
        """What ``decay`` is for, as one vector: all gains, and alpha of the checkerboard couplings only (published)."""
        gains = [m.gain.flatten() for m in self.modules() if isinstance(m, UnitConv2d) and m.gain is not None]
        return torch.cat(gains + [m.alpha.flatten() for m in self.modules() if isinstance(m, CheckerCoupling)])

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, H + 2 pad, W + 2 pad)."""
        channels, height, width = self.shape
        return channels, height + 2 * self.pad, width + 2 * self.pad

    def _regions(self, x: Tensor, observed: Tensor, hidden: Tensor | None) -> tuple[Tensor, Condition]:
        """Padded values, 0 where missing, and the condition (as yet without context)."""
        observed, hidden = _full(x, observed, hidden)
        values = torch.where(observed | hidden, x, 0)
        frame = (self.pad,) * 4
        told, scored = functional.pad(observed.to(x.dtype), frame, value=1.0), functional.pad(hidden.to(x.dtype), frame)
        return functional.pad(values, frame), Condition(told, scored)

    def _told(self, values: Tensor, condition: Condition) -> Tensor:
        """Observed values as logits, 0 elsewhere."""
        return torch.where(condition.observed > 0, self.logit.centred(values), 0)

    def _informed(self, condition: Condition, y: Tensor) -> Condition:
        """With the context, where there is one: the observed values of ``y`` and the mask."""
        if not self.context:
            return condition
        return condition._replace(context=torch.cat([y * condition.observed, condition.observed], 1))

    def _decoded(self, z: Tensor, x: Tensor, observed: Tensor, hidden: Tensor | None) -> Tensor:
        """:meth:`decode` for z (n,B,C,H',W'), a bounded number of images at once."""
        each = max(1, AT_ONCE // max(1, len(x)))
        parts = []
        for some in z.split(each):
            many = [None if t is None else t.repeat(len(some), 1, 1, 1) for t in (x, observed, hidden)]
            assert many[0] is not None and many[1] is not None
            parts.append(self.decode(some.flatten(0, 1), many[0], many[1], many[2]).unflatten(0, (len(some), len(x))))
        return torch.cat(parts)


def _full(x: Tensor, observed: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both regions in the shape of ``x``, nowhere both True."""
    observed = observed.expand_as(x)
    return observed, ~observed if hidden is None else hidden.expand_as(x) & ~observed


def _pasted(values: Tensor, x: Tensor, observed: Tensor, hidden: Tensor | None) -> Tensor:
    """``values`` where hidden, ``x`` where observed, bit for bit, and 0 where missing."""
    observed, hidden = _full(x, observed, hidden)
    return torch.where(hidden, values, torch.where(observed, x, 0))
