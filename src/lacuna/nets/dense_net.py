"""The fully connected network of MCFlow (Richardson et al. 2020), for its flow's couplings and its latent map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lacuna.nets.checks import check_count, check_counts


class DenseNet(nn.Module):
    """Linear layers with LeakyReLU(0.01) in between; no dropout, no normalisation.

    Args:
        in_features, out_features: numbers of values.
        widths: of the hidden layers.
        bounded: whether a tanh ends the network.

    Raises:
        LacunaError: a size is not a whole number of at least 1.
    """

    def __init__(self, in_features: int, out_features: int, widths: Sequence[int], bounded: bool = False) -> None:
        super().__init__()
        check_count("net.in_features", in_features)
        check_count("net.out_features", out_features)
        check_counts("net.widths", widths)
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(in_features, width), nn.LeakyReLU(0.01)]
            in_features = width
        self.layers = nn.Sequential(*layers, nn.Linear(in_features, out_features), *([nn.Tanh()] if bounded else []))

    def forward(self, x: Tensor) -> Tensor:
        """(B,in_features) -> (B,out_features)."""
        out: Tensor = self.layers(x)
        return out
