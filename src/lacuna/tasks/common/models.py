"""From a recipe to the model it trains; also how a stored run becomes a model again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lacuna.densities.base import Density
from lacuna.errors import LacunaError
from lacuna.files import replacing
from lacuna.flows.acflow import ACFlow
from lacuna.imputers.base import Imputer
from lacuna.layers.stem import Encoding, Stem
from lacuna.nets.wae import WAE
from lacuna.registry import build, find


@dataclass(frozen=True)
class Sizes:
    """What a model must know of the data: shape (C, H, W), mask channels, and what the labels are.

    These are one of so many ``classes``, or yes or no to so many ``attributes``; both are None without labels.
    """

    shape: tuple[int, int, int]
    classes: int | None = None
    mask_channels: int = 1
    attributes: int | None = None

    @property
    def answers(self) -> int | None:
        """How many outputs a classifier has: one a class, or one an attribute; None without labels."""
        return self.attributes if self.classes is None else self.classes

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Sizes:
        """Back from :meth:`plain`."""
        channels, height, width = plain["shape"]
        return cls((channels, height, width), plain["classes"], plain["mask_channels"], plain.get("attributes"))


class IncompleteClassifier(nn.Module):
    """A stem and what stands behind it: (observed, mask) -> logits (B, classes), or (B, attributes)."""

    def __init__(self, stem: Stem, body: nn.Module) -> None:
        super().__init__()
        self.stem, self.body = stem, body

    def forward(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """Logits; ``observed`` (B,C,H,W) in [0,1] is read only where ``mask`` (bool, True = observed)."""
        logits: Tensor = self.body(self.stem(torch.where(mask, observed, 0), mask, encoding))
        return logits

    def features(self, image: Tensor) -> Tensor:
        """What the body says of complete images (B,C,H,W) before it classifies them, (B, d): for FID."""
        body: Any = self.body
        found: Tensor = body.features(self.stem(image, _nothing_missing(image)))
        return found


class IncompleteAutoencoder(nn.Module):
    """A stem and an auto-encoder: (observed, mask) -> reconstruction (B,C,H,W) in [0, 1], known pixels and all."""

    def __init__(self, stem: Stem, wae: WAE) -> None:
        super().__init__()
        self.stem, self.wae = stem, wae

    def encode(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """The code (B, latent); ``observed`` (B,C,H,W) is read only where ``mask`` (bool, True = observed)."""
        return self.wae.encode(self.stem(torch.where(mask, observed, 0), mask, encoding))

    def forward(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """The reconstruction of the whole image."""
        return self.wae.decode(self.encode(observed, mask, encoding))

    def features(self, image: Tensor) -> Tensor:
        """The code of complete images (B,C,H,W), (B, latent): an auto-encoder may be the feature net of FID."""
        return self.encode(image, _nothing_missing(image))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Images (n,C,H,W) decoded from codes drawn from N(0, 1); evaluation mode is the caller's choice."""
        weight = next(self.wae.decoder.parameters())
        return self.wae.decode(torch.randn(n, self.wae.latent, generator=generator, device=weight.device))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the pieces, for training needs the code between them."""
        for piece in (self.stem, self.wae.encoder, self.wae.decoder):
            piece.compile(*args, **kwargs)


def build_model(config: Mapping[str, Any], sizes: Sizes, parts: Mapping[str, nn.Module]) -> nn.Module:
    """The model that a recipe trains, on top of its already trained ``parts``."""
    return BUILDERS[config["task"]["name"]](config, sizes, parts)


def build_density(config: Mapping[str, Any], sizes: Sizes) -> Density:
    """The density a recipe trains."""
    density: Density = build("density", config["density"], shape=sizes.shape)
    return density


def build_stem(
    config: Mapping[str, Any], sizes: Sizes, parts: Mapping[str, nn.Module]
) -> tuple[Stem, int, tuple[int, int]]:
    """The stem of a recipe, its front frozen, with the channels and the (H', W') of what it delivers."""
    spec = dict(config["stem"])
    offer: dict[str, Any] = {"channels": sizes.shape[0], "mask_channels": sizes.mask_channels, **parts}
    if "imputer" in spec:
        offer["imputer"] = build("imputer", spec.pop("imputer"), offer=parts)
    stem: Stem = build("stem", spec, offer=offer)
    stem.freeze()
    with torch.no_grad():
        blank = torch.zeros(1, *sizes.shape)
        _, channels, height, width = stem.eval()(blank, _nothing_missing(blank), _blank(stem, blank)).shape
    stem.train()
    return stem, channels, (height, width)


@contextmanager
def _fitting(sizes: Sizes) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's way to say that sizes do not fit
        reason = (str(error).splitlines() or [""])[0]
        raise LacunaError(f"stem.* or net.* do not fit images of shape {sizes.shape}: {reason}.") from error


def build_flow(config: Mapping[str, Any], sizes: Sizes) -> ACFlow:
    """The flow a recipe trains."""
    flow: ACFlow = build("flow", config["flow"], shape=sizes.shape)
    return flow


def build_imputer(config: Mapping[str, Any], sizes: Sizes, parts: Mapping[str, nn.Module]) -> Imputer:
    """The imputer a recipe trains or fits, on its trained ``parts``; it may ask for ``shape`` and ``mask_channels``."""
    needs = {name: parts[name] for name in config["imputer"].get("prerequisites", ())}
    offer = {"shape": sizes.shape, "mask_channels": sizes.mask_channels, **needs}
    imputer: Imputer = build("imputer", config["imputer"], offer=offer)
    return imputer


def build_classifier(config: Mapping[str, Any], sizes: Sizes, parts: Mapping[str, nn.Module]) -> IncompleteClassifier:
    """The classifier a recipe trains, on top of its already trained ``parts``.

    Raises:
        LacunaError: the data set has no labels, or its images are too small for the layers.
    """
    if sizes.answers is None:
        raise LacunaError(f"data={config['data']['name']} has no labels: task=classify needs them (task=density not).")
    with _fitting(sizes):
        stem, channels, size = build_stem(config, sizes, parts)
        body = build("net", config["net"], filters=channels, size=size, classes=sizes.answers)
    return IncompleteClassifier(stem, body)


def build_autoencoder(config: Mapping[str, Any], sizes: Sizes, parts: Mapping[str, nn.Module]) -> IncompleteAutoencoder:
    """The auto-encoder a recipe trains, on top of its already trained ``parts``.

    Raises:
        LacunaError: the net is no auto-encoder, or the images are too small for the layers.
    """
    if not issubclass(find("net", config["net"]["type"]), WAE):
        raise LacunaError(f"net={config['net']['name']} makes no images: task=generate needs net=wae_... .")
    with _fitting(sizes):
        stem, channels, size = build_stem(config, sizes, parts)
        wae: WAE = build("net", config["net"], filters=channels, size=size, shape=sizes.shape)
    return IncompleteAutoencoder(stem, wae)


BUILDERS: dict[str, Callable[[Mapping[str, Any], Sizes, Mapping[str, nn.Module]], nn.Module]] = {
    "density": lambda config, sizes, parts: build_density(config, sizes),
    "flow": lambda config, sizes, parts: build_flow(config, sizes),
    "impute": build_imputer,
    "classify": build_classifier,
    "generate": build_autoencoder,
}
"""Task -> what makes its model."""


def _nothing_missing(image: Tensor) -> Tensor:
    return torch.ones_like(image[:, :1], dtype=torch.bool)


def _blank(stem: Stem, blank: Tensor) -> Encoding:
    """A encoding to measure the stem with; an imputer, fitted or not, gives an image of the same size."""
    return blank if isinstance(stem.frozen, Imputer) else None


def foreign(model: nn.Module, parts: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """Prefixes of the model's state that belong to other runs and are stored there."""
    others = {id(part) for part in parts.values()}
    return tuple(f"{name}." for name, module in model.named_modules() if id(module) in others)


def save_weights(path: Path, model: nn.Module, parts: Mapping[str, nn.Module], identity: str) -> None:
    """Write the model's own weights as safetensors, atomically, with the identity of the recipe they belong to."""
    skip = foreign(model, parts)
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if not k.startswith(skip or "\0")}
    with replacing(path) as temporary:
        save_file(state, temporary, {"recipe": identity})


def load_weights(path: Path, model: nn.Module, parts: Mapping[str, nn.Module], identity: str) -> None:
    """Read what :func:`save_weights` wrote. Safetensors hold numbers only, never code.

    Raises:
        LacunaError: the file is missing or damaged, or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            owner = (file.metadata() or {}).get("recipe")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise LacunaError(
            f"{path} is missing or damaged ({error}): delete the run's folder and train it again."
        ) from error
    expected = {key for key in model.state_dict() if not key.startswith(foreign(model, parts) or "\0")}
    try:
        if owner != identity or set(state) != expected:
            raise RuntimeError("it is another model's")
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise LacunaError(f"{path} does not fit its recipe: delete the run's folder and train it again.") from error
