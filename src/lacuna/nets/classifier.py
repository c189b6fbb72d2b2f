"""The classifiers of MisConv's appendix A.2, without their first convolution, which is the stem."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lacuna.errors import LacunaError
from lacuna.nets.checks import check_count, check_stages, check_variant
from lacuna.nets.density_net import conv_block, down


class Classifier(nn.Module):
    """Stages of convolution blocks with downsampling, then two fully connected layers.

    Args:
        filters: channels of the stem's features.
        size: (H', W') of the stem's features.
        classes: number of classes.
        stages: [filters, number of blocks] per stage, the stem not counted. In the first stage of ``paper`` the number
            may be 0, because the stem is the first convolution of the printed list: [conv32, down, [conv64] x 2] is
            [[32, 0], [64, 2]].
        hidden: width of the first fully connected layer.
        dropout: its probability, behind every block and the hidden layer.
        variant: ``paper`` (the list in A.2: begins with batch normalisation and dropout of the stem's features;
            downsampling between stages only) or ``authors`` (their code: no normalisation of the stem's features,
            begins with a plain convolution, downsampling behind every stage, ReLU before the fully connected layers).

    Raises:
        LacunaError: a value is out of its range, or the first stage does not fit the stem.

    Shape:
        (B, filters, H', W') -> logits (B, classes).
    """

    def __init__(
        self,
        filters: int,
        size: tuple[int, int],
        classes: int,
        stages: Sequence[Sequence[int]] = ((32, 0), (64, 2)),
        hidden: int = 20,
        dropout: float = 0.0,
        variant: str = "paper",
    ) -> None:
        super().__init__()
        check_variant("net.variant", variant)
        check_stages("net.stages", stages, first=0 if variant == "paper" else 1)
        if stages[0][1] == 0 and stages[0][0] != filters:
            raise LacunaError(
                f"net.stages[0]={list(stages[0])} has no convolution of its own, and the stem has {filters} filters: "
                f"set stem.filters={stages[0][0]}, or give the stage a block."
            )
        check_count("net.hidden", hidden)
        layers: list[nn.Module] = []
        if variant == "authors":
            layers.append(nn.Conv2d(filters, filters, 3, padding=1))
        else:  # the rest of the block that begins with the stem's convolution and ReLU
            layers += [nn.BatchNorm2d(filters), *([nn.Dropout(dropout)] if dropout else [])]
        width = filters
        for number, (out, count) in enumerate(stages):
            if number and variant == "paper":
                layers.append(down(width, width))
            for i in range(count):
                layers.append(conv_block(width if i == 0 else out, out, 3, dropout))
            width = out
            if variant == "authors":
                layers.append(down(width, width))
        if variant == "authors":
            layers.append(nn.ReLU())
        self.features = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            flat = self.features.eval()(torch.zeros(1, filters, *size)).shape[1]
        self.features.train()
        head: list[nn.Module] = [nn.Linear(flat, hidden), nn.ReLU()]
        if dropout:
            head.insert(2 if variant == "paper" else 1, nn.Dropout(dropout))
        self.head = nn.Sequential(*head, nn.Linear(hidden, classes))

    def forward(self, features: Tensor) -> Tensor:
        """The logits (B, classes) of features (B, filters, H', W')."""
        logits: Tensor = self.head(self.features(features))
        return logits
