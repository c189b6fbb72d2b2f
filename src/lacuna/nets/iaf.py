"""Inverse autoregressive flow (Kingma et al. 2016), of which P-BiGAN's encoder has two steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from lacuna.nets.checks import check_count


class MaskedLinear(nn.Linear):
    """A linear layer with the weights outside ``allowed`` (out, in), bool, masked to 0."""

    allowed: Tensor

    def __init__(self, allowed: np.ndarray) -> None:
        super().__init__(allowed.shape[1], allowed.shape[0])
        self.register_buffer("allowed", torch.tensor(allowed, dtype=self.weight.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B,in) -> (B,out)."""
        return nn.functional.linear(x, self.weight * self.allowed, self.bias)


class IAFStep(nn.Module):
    """z <- g z + (1 - g) m with g = sigmoid(s + b); m and s of a value depend on the values before it and a context.

    Args:
        latent: number of values.
        context: size of the context.
        hidden: width of the two hidden layers of the MADE that outputs m and s.

    Raises:
        LacunaError: a size is not a whole number of at least 1.

    Shape:
        (B,latent), (B,context) -> (B,latent).
    """

    def __init__(self, latent: int, context: int, hidden: int = 256) -> None:
        super().__init__()
        check_count("imputer.latent", latent)
        check_count("imputer.iaf_hidden", hidden)
        random = np.random.RandomState(0)  # as published: the same degrees in every step and run
        order = np.arange(1, latent + 1)
        first, second = (random.randint(1, max(2, latent), hidden) for _ in range(2))
        self.input = MaskedLinear(first[:, None] >= order)
        self.context = nn.Linear(context, hidden)
        self.hidden = MaskedLinear(second[:, None] >= first)
        self.output = MaskedLinear(np.tile(order, 2)[:, None] > second)
        self.bias = nn.Parameter(torch.full((1,), 2.0))

    def forward(self, z: Tensor, context: Tensor) -> Tensor:
        """The transformed code (B,latent) of a code (B,latent) and a context (B,context)."""
        h = torch.relu(self.input(z) + self.context(context))
        m, s = self.output(torch.relu(self.hidden(h))).chunk(2, 1)
        gate = torch.sigmoid(s + self.bias)
        transformed: Tensor = gate * z + (1 - gate) * m
        return transformed
