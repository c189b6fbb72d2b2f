"""LeNet-5 with ReLU and max pooling: PRFlow's classifier and feature net for MNIST."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lacuna.errors import LacunaError

_KERNEL = 5
_FILTERS = (6, 16)
_WIDTHS = (120, 84)


class LeNet(nn.Module):
    """LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998) in its modern form.

    Convolution 5x5 to 6 channels, pooling; convolution 5x5 to 16, pooling; fully connected 120, 84, classes. ReLU and
    max pooling replace the original tanh, trainable average pooling and Gaussian outputs. For images in [0, 1]; no
    normalisation.

    Args:
        filters: channels of the input: those of the image or, behind a stem, of its features.
        size: (H, W) of the input.
        classes: number of classes.
        padding: of the two convolutions; (2, 0) pads MNIST's 28x28 to the 32x32 of the paper; (2, 2) allows images as
            small as 4x4.

    Raises:
        LacunaError: the input is too small, or the padding is not two whole numbers of at least 0.

    Shape:
        (B, filters, H, W) -> logits (B, classes).
    """

    def __init__(self, filters: int, size: tuple[int, int], classes: int, padding: Sequence[int] = (2, 0)) -> None:
        super().__init__()
        if len(padding) != 2 or not all(isinstance(p, int) and p >= 0 for p in padding):
            raise LacunaError(f"net.padding={list(padding)} must be two whole numbers of at least 0, such as [2,0].")
        height, width = (_pooled(_pooled(side, padding[0]), padding[1]) for side in size)
        if min(height, width) < 1:
            raise LacunaError(
                f"Images of {size[0]}x{size[1]} are too small for LeNet with net.padding={list(padding)}: "
                "choose net.padding=[2,2] or another net."
            )
        self.convolutions = nn.Sequential(
            nn.Conv2d(filters, _FILTERS[0], _KERNEL, padding=padding[0]),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(_FILTERS[0], _FILTERS[1], _KERNEL, padding=padding[1]),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.hidden = nn.Sequential(
            nn.Linear(_FILTERS[1] * height * width, _WIDTHS[0]),
            nn.ReLU(),
            nn.Linear(_WIDTHS[0], _WIDTHS[1]),
            nn.ReLU(),
        )
        self.head = nn.Linear(_WIDTHS[1], classes)

    def features(self, x: Tensor) -> Tensor:
        """The activations (B, 84), >= 0, of the last hidden layer."""
        found: Tensor = self.hidden(self.convolutions(x))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """The logits (B, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def _pooled(side: int, padding: int) -> int:
    """Side of the image after a convolution and its pooling."""
    return (side + 2 * padding - _KERNEL + 1) // 2
