"""ResNet-18 for 32x32 images: PRFlow's classifier and feature net for CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lacuna.nets.checks import check_stages


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes (He et al., option B)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride), >= 0."""
        inside = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = (inside + shortcut).relu()
        return out


class ResNet(nn.Module):
    """ResNet (He et al., "Deep residual learning", 2016) for small images: begins with 3x3, stride 1, no pooling.

    Weights are named and initialised as torchvision's ``resnet18``. For images in [0, 1]: batch normalisation replaces
    a normalisation of the input.

    Args:
        filters: channels of the input: those of the image or, behind a stem, of its features.
        size: (H, W) of the input; any (positions are averaged at the end).
        classes: number of classes.
        stages: [filters, number of blocks] per stage; every stage but the first downsamples by 2.

    Raises:
        LacunaError: a value is out of its range.

    Shape:
        (B, filters, H, W) -> logits (B, classes).
    """

    def __init__(
        self,
        filters: int,
        size: tuple[int, int],
        classes: int,
        stages: Sequence[Sequence[int]] = ((64, 2), (128, 2), (256, 2), (512, 2)),
    ) -> None:
        super().__init__()
        check_stages("net.stages", stages)
        width = stages[0][0]
        self.conv1 = nn.Conv2d(filters, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layers = [f"layer{number}" for number in range(1, len(stages) + 1)]
        for name, (out_channels, count) in zip(self.layers, stages, strict=True):
            first = BasicBlock(width, out_channels, stride=1 if name == "layer1" else 2)
            others = [BasicBlock(out_channels, out_channels, stride=1) for _ in range(count - 1)]
            self.add_module(name, nn.Sequential(first, *others))
            width = out_channels
        self.fc = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """The output of the last stage averaged over positions, (B, filters of the last stage), >= 0."""
        h: Tensor = self.bn1(self.conv1(x)).relu()
        for name in self.layers:
            h = self.get_submodule(name)(h)
        return h.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """The logits (B, classes)."""
        logits: Tensor = self.fc(self.features(x))
        return logits
