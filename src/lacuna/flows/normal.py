"""Unconditional flows of images to a standard normal distribution; each pass, in either direction, yields log p."""

from __future__ import annotations

import math

from torch import Tensor

from lacuna.flows.base import Flow
from lacuna.mfa import full_precision


class NormalFlow(Flow):
    """An unconditional flow to a standard normal distribution."""

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density (B,) of images (B,C,H,W), in nats."""
        return self.encode(x)[1]

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The latent values (B,C,H,W) of images (B,C,H,W), and the images' log p (B,), in nats."""
        z, log_det = self.forward(x)
        return z, log_normal(z) + log_det

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The images (B,C,H,W) of latent values (B,C,H,W), and their log p (B,), in nats, at no extra cost."""
        x, log_det = self.inverse(z)
        return x, log_normal(z) - log_det


def log_normal(z: Tensor) -> Tensor:
    """The standard normal distribution's log-density (B,) of latent values (B,C,H,W), in nats."""
    with full_precision(z):
        flat = z.flatten(1)
        return -0.5 * flat.square().sum(1) - 0.5 * flat.shape[1] * math.log(2 * math.pi)
