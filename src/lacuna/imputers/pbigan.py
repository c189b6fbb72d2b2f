"""P-BiGAN (Li and Marlin 2020), a bidirectional GAN of incomplete images: the rows "PBiGAN" of PRFlow's tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lacuna.errors import LacunaError
from lacuna.imputers.base import Imputer
from lacuna.imputers.sampling_noise import image_keys, normal
from lacuna.imputers.simple import check_image_shape
from lacuna.mfa import widened
from lacuna.nets.checks import check_count
from lacuna.nets.gan import Generator, Shape, check_kind
from lacuna.nets.pbigan import Encoder, PairCritic

CODES = ("sampled", "middle")


class PBiGAN(Imputer):
    """An encoder of incomplete images, a decoder to complete images, and a critic of pairs (image, code).

    The imputation is the decoded code of the image. Its noise is a function of the image
    (:mod:`lacuna.imputers.sampling_noise`), so that the result does not depend on the batch.

    Args:
        shape: (C,H,W) of the images.
        nets: ``mnist``, ``colour`` or ``dense``; see :mod:`lacuna.nets.gan`.
        latent: dimension of the codes.
        widths: of the encoder's and the critic's layers, and in reverse order of the decoder's.
        iaf_steps: steps of inverse autoregressive flow in the encoder.
        iaf_hidden: width of their networks.
        code: ``sampled`` as published, or ``middle``: the code of zero noise.
        samples: number of samples an image whose mean :meth:`impute` returns; 1 as published.

    Raises:
        LacunaError: a value is out of its range, or the networks do not fit the images.
    """

    def __init__(
        self,
        shape: Shape,
        nets: str = "mnist",
        latent: int = 128,
        widths: Sequence[int] = (64, 128, 256),
        iaf_steps: int = 2,
        iaf_hidden: int = 256,
        code: str = "sampled",
        samples: int = 1,
    ) -> None:
        super().__init__()
        check_kind(nets, shape, latent, widths)
        check_count("imputer.samples", samples)
        if code not in CODES:
            raise LacunaError(f"imputer.code={code!r} is none of {', '.join(CODES)}.")
        self.shape, self.latent = tuple(shape), latent
        self.code, self.samples = code, samples if code == "sampled" else 1
        self.encoder = Encoder(nets, shape, latent, widths, iaf_steps, iaf_hidden)
        self.decoder = Generator(nets, shape, latent, widths)
        self.critic = PairCritic(nets, shape, latent, widths)

    @property
    def critics(self) -> list[nn.Module]:
        """The networks that are critics; all others are generators."""
        return [self.critic]

    def encode(self, observed: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """Codes (B,latent) of incomplete images and noise (B,latent) from N(0, 1)."""
        codes: Tensor = self.encoder(torch.where(mask, observed, 0), noise)
        return codes

    def decode(self, code: Tensor) -> Tensor:
        """Logits (B,C,H,W) of complete images of codes (B,latent)."""
        logits: Tensor = self.decoder(code)
        return logits

    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        check_image_shape(self, torch.Size(self.shape), observed)
        keys, image = image_keys(observed, mask), widened(observed)
        total = torch.zeros_like(image)
        for draw in range(self.samples):
            noise = normal(keys, (self.latent,), draw).to(image)
            if self.code == "middle":
                noise = torch.zeros_like(noise)
            total += torch.sigmoid(self.decode(self.encode(image, mask, noise)))
        return total / self.samples

    def _sample(self, observed: Tensor, mask: Tensor, n: int) -> Tensor:
        check_image_shape(self, torch.Size(self.shape), observed)
        image = widened(observed)
        noise = torch.randn(n, len(image), self.latent, device=image.device, dtype=image.dtype)
        return torch.stack([torch.sigmoid(self.decode(self.encode(image, mask, each))) for each in noise])
