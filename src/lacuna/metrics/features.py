"""Feature nets: they turn images into the feature vectors that FID compares."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lacuna.errors import LacunaError
from lacuna.extras import require
from lacuna.mfa import full_precision

LEVELS = 255


class Features:
    """A frozen feature net with a name: images (B, C, H, W) in [0, 1] -> features (B, d).

    Images are first clamped to [0, 1] and rounded to 256 grey levels, as if saved. An image with a non-finite value
    has NaN features, so that a diverged model is detected. The net runs in evaluation mode, in float32, without
    gradient, on the device of the images.

    Args:
        net: a module, whose method ``features`` is used if it has one; a copy is kept, so that further training has
            no effect. Or any function. It takes (B, C, H, W) in [0, 1] and returns (B, d).
        name: of the net, for the protocol; required for a function, default: the module's class.
        layer: the layer that the features are taken from, for the protocol.
        resize: side in pixels to which images are resized first (bilinear, antialiased); None: not resized.

    Raises:
        LacunaError: a function without a name.
    """

    def __init__(
        self,
        net: nn.Module | Callable[[Tensor], Tensor],
        *,
        name: str | None = None,
        layer: str = "features",
        resize: int | None = None,
    ) -> None:
        self._module: nn.Module | None = None
        self._function: Callable[[Tensor], Tensor] = net
        self.digest = ""
        if isinstance(net, nn.Module):
            self._module = copy.deepcopy(net).requires_grad_(False).eval()
            self._function = getattr(self._module, "features", self._module)
            self.digest = _digest(self._module)
            name = name or type(net).__name__
        if not name:
            raise LacunaError("A feature net that is a function needs a name: Features(function, name='...').")
        self.name, self.layer, self.resize = name, layer, resize
        self._size = "not resized" if resize is None else f"resized to {resize}x{resize} (bilinear, antialiased)"

    @property
    def protocol(self) -> str:
        """Everything that determines the features, on one line: net, weights, layer, resize, rounding."""
        weights = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{weights}, layer {self.layer}, images {self._size}, 8 bits"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, d) of images (B, C, H, W).

        Raises:
            LacunaError: the images are not (B, C, H, W), or what the net returns is not (B, d).
        """
        if images.ndim != 4 or not images.is_floating_point():
            raise LacunaError(
                f"{self.name} takes floating-point images (B, C, H, W) in [0, 1], not {images.dtype} "
                f"{tuple(images.shape)}."
            )
        if self._module is not None:
            self._module.to(images.device)
        finite = images.flatten(1).isfinite().all(1)
        images = torch.where(finite.view(-1, 1, 1, 1), images.to(torch.get_default_dtype()), 0.0).clamp(0, 1)
        images = (images * LEVELS).round() / LEVELS
        if self.resize is not None:
            images = functional.interpolate(images, size=(self.resize, self.resize), mode="bilinear", antialias=True)
        with full_precision(images):
            found = self._function(images)
        if found.ndim != 2 or len(found) != len(images):
            raise LacunaError(
                f"{self.name} returned {tuple(found.shape)} for {len(images)} images: features must be (B, d), "
                "so average or flatten positions first."
            )
        return found.masked_fill(~finite[:, None], torch.nan)


def inception(weights: Path | str | None = None) -> Features:
    """The net of published FIDs: Inception-v3 of 2015 with TensorFlow's weights, 2048 pooled features.

    Args:
        weights: the weights file, with tensors only, no code; by default torch-fidelity downloads it once.

    Raises:
        LacunaError: torch-fidelity or the weights are missing; the message says what to do.
    """
    fidelity = require("torch_fidelity.feature_extractor_inceptionv3", "fid", "FID in Inception's features")
    if weights is not None:
        read_tensors(weights, "Inception")  # torch-fidelity itself would execute code in the file
    try:
        extractor = fidelity.FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=None if weights is None else str(weights)
        )
    except Exception as error:  # any error of a download or a wrong file; the fix is the same
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LacunaError(
            f"The weights of Inception could not be loaded from {weights or 'the network'} ({reason}): get the file "
            f"{fidelity.URL_INCEPTION_V3} and pass it as inception(weights=...)."
        ) from error
    features = Features(_Inception(extractor.float()), name="inception-v3-compat", layer="2048")
    features._size = "resized to 299x299 (bilinear, as TensorFlow 1, by the net)"
    return features


class _Inception(nn.Module):
    """torch-fidelity's extractor, which takes RGB images as uint8 and resizes them as TensorFlow 1 did."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def features(self, images: Tensor) -> Tensor:
        if images.shape[1] not in (1, 3):
            raise LacunaError(f"Inception takes grey or RGB images, not images of {images.shape[1]} channels.")
        found: tuple[Tensor, ...] = self.extractor((images.expand(-1, 3, -1, -1) * LEVELS).round().to(torch.uint8))
        return found[0]


def read_tensors(weights: Path | str, net: str) -> Any:
    """The content of a weights file, on the CPU; code in the file is never executed.

    Args:
        weights: the file.
        net: name of the net, for messages.

    Raises:
        LacunaError: the file is missing or damaged, or holds more than tensors.
    """
    try:
        return torch.load(weights, map_location="cpu", weights_only=True)
    except OSError as error:
        raise LacunaError(f"{weights} cannot be read ({error.strerror}): name the weights' file.") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise LacunaError(f"{weights} is damaged or holds more than tensors: it is not {net}'s weights.") from error


def _digest(module: nn.Module) -> str:
    """A hash of 12 hexadecimal digits over the class name and all weights and buffers."""
    digest = hashlib.sha256(type(module).__qualname__.encode())
    state: dict[str, Any] = module.state_dict()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
