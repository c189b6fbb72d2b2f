"""MisGAN (Li, Jiang and Marlin 2019), the imputation variant: the rows "MisGAN" of PRFlow's tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer
from lacuna.imputers.sampling_noise import image_keys, uniform
from lacuna.imputers.simple import check_image_shape
from lacuna.mfa import widened
from lacuna.nets.checks import check_count
from lacuna.nets.gan import Critic, DenseImputer, Generator, Shape, UNet, check_kind

MASKS = ("sigmoid", "fusion")
TEMPERATURE = 0.66


class MisGAN(Imputer):
    """Three generators, of complete images, masks and imputations, each with a critic.

    Imputation uses the imputer only. Its noise is a function of the image (:mod:`lacuna.imputers.sampling_noise`), so
    that the result does not depend on the batch.

    Args:
        shape: (C,H,W) of the images.
        mask_channels: 1, or C if channels have masks of their own.
        nets: ``mnist``, ``colour`` or ``dense``; see :mod:`lacuna.nets.gan`. ``colour`` imputes with a U-Net.
        latent: dimension of the generators' codes.
        widths: of the critics' layers, and in reverse order of the generators'.
        imputer_widths: of the imputer's hidden layers, or of the U-Net's levels.
        tau: value of missing pixels in the data critic's input, in [0, 1].
        mask_output: output of the mask generator with logits x: ``sigmoid``, s = sigmoid(x / 0.66), or ``fusion``,
            1.2 s - 0.1 clipped to [0, 1].
        samples: number of samples an image whose mean :meth:`impute` returns; 1 as published.

    Raises:
        LacunaError: a value is out of its range, or the networks do not fit the images.
    """

    def __init__(
        self,
        shape: Shape,
        mask_channels: int = 1,
        nets: str = "mnist",
        latent: int = 128,
        widths: Sequence[int] = (64, 128, 256),
        imputer_widths: Sequence[int] = (784, 784, 784),
        tau: float = 0.0,
        mask_output: str = "fusion",
        samples: int = 1,
    ) -> None:
        super().__init__()
        check_kind(nets, shape, latent, widths)
        check_count("imputer.samples", samples)
        if not (isinstance(tau, int | float) and 0 <= tau <= 1):
            raise LacunaError(f"imputer.tau={tau} must lie in [0, 1]: it is a grey level.")
        if mask_output not in MASKS:
            raise LacunaError(f"imputer.mask_output={mask_output!r} is none of {', '.join(MASKS)}.")
        self.shape, self.latent, self.tau = tuple(shape), latent, tau
        self.mask_output, self.samples = mask_output, samples
        mask_shape = (mask_channels, *shape[1:])
        self.data_generator = Generator(nets, shape, latent, widths)
        self.mask_generator = Generator(nets, mask_shape, latent, widths)
        self.imputer: nn.Module
        if nets == "colour":
            self.imputer = UNet(shape[0], shape[1], imputer_widths)
        else:
            self.imputer = DenseImputer(shape, imputer_widths)
        self.data_critic = Critic(nets, shape, widths)
        self.mask_critic = Critic(nets, mask_shape, widths)
        self.imputer_critic = Critic(nets, shape, widths)

    @property
    def critics(self) -> list[nn.Module]:
        """The networks that are critics; all others are generators."""
        return [self.data_critic, self.mask_critic, self.imputer_critic]

    def images(self, code: Tensor) -> Tensor:
        """Generated complete images (B,C,H,W) in [0, 1] of codes (B,latent)."""
        return torch.sigmoid(self.data_generator(code))

    def masks(self, code: Tensor) -> Tensor:
        """Generated masks (B,1|C,H,W) of codes (B,latent), values in [0, 1], 1 = observed."""
        soft = torch.sigmoid(self.mask_generator(code) / TEMPERATURE)
        return soft if self.mask_output == "sigmoid" else (1.2 * soft - 0.1).clamp(0, 1)

    def incomplete(self, image: Tensor, mask: Tensor) -> Tensor:
        """f_tau(x, m): the image where the mask (values in [0, 1]) is 1, tau where it is 0."""
        return composite(image, mask, self.tau)

    def completed(self, observed: Tensor, mask: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Imputations from ``noise`` (B,C,H,W) at missing pixels: with observed pixels put back, and the raw output."""
        soft = mask.to(observed.dtype)
        raw = self.imputer(composite(observed, soft, noise))
        return composite(observed, soft, raw), raw

    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        check_image_shape(self, torch.Size(self.shape), observed)
        keys = image_keys(observed, mask)
        image, size = widened(observed), tuple(observed.shape[1:])
        samples = (self.completed(image, mask, uniform(keys, size, draw).to(image))[1] for draw in range(self.samples))
        return sum(samples, torch.zeros_like(image)) / self.samples

    def _sample(self, observed: Tensor, mask: Tensor, n: int) -> Tensor:
        check_image_shape(self, torch.Size(self.shape), observed)
        image = widened(observed)
        return torch.stack([self.completed(image, mask, torch.rand_like(image))[1] for _ in range(n)])


def composite(image: Tensor, mask: Tensor, fill: Tensor | float) -> Tensor:
    """The image m x + (1 - m) fill, for a mask m with values in [0, 1]; exact where m is 0 or 1."""
    return mask * image + (1 - mask) * fill
