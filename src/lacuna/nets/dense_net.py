"""The fully connected network of MCFlow (Richardson et al. 2020): in its flow's couplings, and as its imputer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lacuna.nets.checks import check_count, check_counts


class DenseNet(nn.Module):
    """Linear layers with LeakyReLU(0.01) in between; no dropout and no norm.

    Args:
        before: values in. after: values out.
        widths: of the hidden layers.
        bounded: tanh at the end.

    Raises:
        LacunaError: a size that is not a whole number of at least 1.
    """

    def __init__(self, before: int, after: int, widths: Sequence[int], bounded: bool = False) -> None:
        super().__init__()
        check_count("net.before", before)
        check_count("net.after", after)
        check_counts("net.widths", widths)
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(before, width), nn.LeakyReLU(0.01)]
            before = width
        self.layers = nn.Sequential(*layers, nn.Linear(before, after), *([nn.Tanh()] if bounded else []))

    def forward(self, x: Tensor) -> Tensor:
        """(B,before) -> (B,after)."""
        out: Tensor = self.layers(x)
        return out
