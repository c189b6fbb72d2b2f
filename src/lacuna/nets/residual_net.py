"""A density's network that learns a correction of an interpolation.

Ours, in neither paper: a U-Net of residual blocks (Ronneberger et al. 2015; He et al. 2016). Its mean is a pull-push
interpolation (Gortler et al. 1996, section 3.3) plus the network's output, which is initially 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lacuna.nets.checks import check_stages
from lacuna.nets.density_net import RawParameters, network_input

BLANK = 0.5
"""Value of an image without observed pixels."""


def pull_push(observed: Tensor, mask: Tensor) -> Tensor:
    """Pull-push interpolation: missing pixels come from a coarser image, the mean of observed pixels in 2x2 cells.

    Missing pixels of the coarser image come from a still coarser one, down to one pixel. Fast, differentiable and not
    accurate. Missing values are never read.

    Args:
        observed: (B,C,H,W), any real values. mask: bool, (B,1,H,W) or (B,C,H,W), True = observed.

    Returns:
        (B,C,H,W), observed values unchanged; 0.5 in an image (or a channel with a mask of its own) without observed
        pixels.
    """
    return _pull_push(torch.where(mask, observed, 0), mask.to(observed.dtype))


def _pull_push(values: Tensor, mask: Tensor) -> Tensor:
    """As :func:`pull_push`; ``mask`` is 0 or 1, and ``values`` are 0 where it is 0."""
    if values.shape[-1] == values.shape[-2] == 1:
        return torch.where(mask > 0, values, BLANK)
    stride = [1 if side == 1 else 2 for side in values.shape[-2:]]
    share = functional.avg_pool2d(mask, stride, stride, ceil_mode=True)
    means = functional.avg_pool2d(values * mask, stride, stride, ceil_mode=True) / share.clamp(min=1e-6)
    coarse = _pull_push(means, (share > 0).to(mask.dtype))
    finer = functional.interpolate(coarse, size=values.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(mask > 0, values, finer)


START = 0.1
"""Factor on the initial weights of a block's second convolution: keeps a deep network without normalisation stable."""


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), initially close to x. No normalisation.

    Args:
        width: channels. kernel: odd size.
    """

    def __init__(self, width: int, kernel: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.second = scaled(nn.Conv2d(width, width, kernel, padding=kernel // 2), START)

    def forward(self, x: Tensor) -> Tensor:
        """(B,width,H,W) -> (B,width,H,W)."""
        out: Tensor = x + self.second(functional.silu(self.first(functional.silu(x))))
        return out


def scaled(layer: nn.Conv2d, factor: float) -> nn.Conv2d:
    """The layer, with its weights and biases multiplied by ``factor`` in place."""
    with torch.no_grad():
        for weight in layer.parameters():
            weight.mul_(factor)
    return layer


class ResidualUNet(nn.Module):
    """Raw parameters of a mixture of factor analysers; the means are relative to a pull-push interpolation.

    The input is the image, the mask and the interpolation. With one component the initial mean is the interpolation;
    several components start with small differences, so that they can diverge in training.

    Args:
        shape: (C, H, W); any H and W (padded inside to a multiple of 2^depth).
        components: K. factors: L, number of factor loadings a component.
        stages: [filters, number of residual blocks] per resolution, the finest first; each but the last occurs on the
            way down and again on the way up.

    Raises:
        LacunaError: a value is out of its range.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        components: int,
        factors: int,
        stages: Sequence[Sequence[int]] = ((48, 2), (96, 2), (144, 3)),
    ) -> None:
        super().__init__()
        check_stages("net.stages", stages)
        self.shape, self.k, self.rank = shape, components, factors
        self.depth = len(stages) - 1
        channels, widths = shape[0], [int(width) for width, _ in stages]
        self.input = nn.Conv2d(3 * channels, widths[0], 3, padding=1)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (width, count) in enumerate(stages):
            self.encoder.append(nn.Sequential(*[ResidualBlock(int(width)) for _ in range(count)]))
            if level < self.depth:
                self.decoder.append(nn.Sequential(*[ResidualBlock(int(width)) for _ in range(count)]))
                self.down.append(nn.Conv2d(int(width), widths[level + 1], 2, stride=2))
                self.up.append(nn.ConvTranspose2d(widths[level + 1], int(width), 2, stride=2))
        self.mean = nn.Conv2d(widths[0], components * channels, 3, padding=1)
        if components == 1:
            scaled(self.mean, 0.0)
        self.noise = nn.Conv2d(widths[0], components * channels, 3, padding=1)
        self.factors = nn.Conv2d(widths[0], components * factors * channels, 3, padding=1) if factors else None
        self.logits = nn.Linear(widths[-1], components) if components > 1 else None

    def forward(self, observed: Tensor, mask: Tensor) -> RawParameters:
        """Raw parameters of images (B,C,H,W), zero where missing, and masks (B,1|C,H,W)."""
        base = pull_push(observed, mask)
        c, (height, width) = self.shape[0], observed.shape[2:]
        h, middle = self._features(torch.cat([network_input(observed, mask), base], 1))
        h = functional.silu(h)[..., :height, :width]
        factors = (
            h.new_zeros(len(h), self.k, 0, c, height, width)
            if self.factors is None
            else self.factors(h).reshape(-1, self.k, self.rank, c, height, width)
        )
        return RawParameters(
            h.new_zeros(len(h), 1) if self.logits is None else self.logits(middle.mean((2, 3))),
            base[:, None] + self.mean(h).unflatten(1, (self.k, c)),
            factors,
            self.noise(h).unflatten(1, (self.k, c)),
        )

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features at the padded image's resolution, and features of the coarsest level."""
        unit = 2**self.depth
        x = self.input(functional.pad(x, (0, -x.shape[-1] % unit, 0, -x.shape[-2] % unit), mode="replicate"))
        skips = []
        for level in range(self.depth):
            x = self.encoder[level](x)
            skips.append(x)
            x = self.down[level](x)
        middle = x = self.encoder[self.depth](x)
        for level in reversed(range(self.depth)):
            x = self.decoder[level](self.up[level](x) + skips[level])
        return x, middle
