"""Builds the model of a recipe, and writes and reads its weights."""

from __future__ import annotations

import inspect
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
from lacuna.nets.outside_net import OutsideNet
from lacuna.nets.wae import WAE
from lacuna.registry import build, find, is_network


@dataclass(frozen=True)
class Sizes:
    """Sizes of the data that determine a model.

    Attributes:
        shape: (C, H, W) of the images.
        classes: number of classes, or None.
        mask_channels: 1 for masks shared by the channels, or C.
        attributes: number of binary attributes, or None; without labels both are None.
    """

    shape: tuple[int, int, int]
    classes: int | None = None
    mask_channels: int = 1
    attributes: int | None = None

    @property
    def outputs(self) -> int | None:
        """Number of outputs of a classifier: one per class or per attribute; None without labels."""
        return self.attributes if self.classes is None else self.classes

    def plain(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Sizes:
        """The sizes that :meth:`plain` returned."""
        channels, height, width = plain["shape"]
        return cls((channels, height, width), plain["classes"], plain["mask_channels"], plain.get("attributes"))


class IncompleteClassifier(nn.Module):
    """A stem and the body of a network: (observed, mask) -> logits (B, classes), or (B, attributes)."""

    def __init__(self, stem: Stem, body: nn.Module) -> None:
        super().__init__()
        self.stem, self.body = stem, body

    def forward(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """Logits; ``observed`` (B,C,H,W) in [0,1] is read only where ``mask`` (bool) is True = observed."""
        logits: Tensor = self.body(self.stem(torch.where(mask, observed, 0), mask, encoding))
        return logits

    def features(self, image: Tensor) -> Tensor:
        """Features (B, d) of complete images (B,C,H,W) before the last layer, for FID."""
        body: Any = self.body
        found: Tensor = body.features(self.stem(image, _full_mask(image)))
        return found


class IncompleteAutoencoder(nn.Module):
    """A stem and an auto-encoder: (observed, mask) -> reconstruction (B,C,H,W) in [0, 1] of all pixels."""

    def __init__(self, stem: Stem, wae: WAE) -> None:
        super().__init__()
        self.stem, self.wae = stem, wae

    def encode(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """The code (B, latent); ``observed`` (B,C,H,W) is read only where ``mask`` (bool) is True = observed."""
        return self.wae.encode(self.stem(torch.where(mask, observed, 0), mask, encoding))

    def forward(self, observed: Tensor, mask: Tensor, encoding: Encoding = None) -> Tensor:
        """The reconstruction of the whole image."""
        return self.wae.decode(self.encode(observed, mask, encoding))

    def features(self, image: Tensor) -> Tensor:
        """Codes (B, latent) of complete images (B,C,H,W), for FID with an auto-encoder as feature net."""
        return self.encode(image, _full_mask(image))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Images (n,C,H,W) decoded from codes drawn from N(0, 1); the caller sets evaluation mode."""
        weight = next(self.wae.decoder.parameters())
        return self.wae.decode(torch.randn(n, self.wae.latent, generator=generator, device=weight.device))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile stem, encoder and decoder separately, since training needs the code between them."""
        for piece in (self.stem, self.wae.encoder, self.wae.decoder):
            piece.compile(*args, **kwargs)


def build_model(config: Mapping[str, Any], sizes: Sizes, prerequisites: Mapping[str, nn.Module]) -> nn.Module:
    """The model that a recipe trains, with its trained ``prerequisites``."""
    return BUILDERS[config["task"]["name"]](config, sizes, prerequisites)


def build_density(config: Mapping[str, Any], sizes: Sizes) -> Density:
    """The density a recipe trains."""
    density: Density = build("density", config["density"], shape=sizes.shape)
    return density


def build_stem(
    config: Mapping[str, Any],
    sizes: Sizes,
    prerequisites: Mapping[str, nn.Module],
    first_layer: Mapping[str, Any] | None = None,
) -> tuple[Stem, int, tuple[int, int]]:
    """The stem of a recipe, with its imputer or density frozen; channels and (H', W') of its output.

    ``first_layer`` are the sizes of the convolution that it becomes, of a network that has its own.
    """
    spec = dict(config["stem"])
    offer: dict[str, Any] = {"channels": sizes.shape[0], "mask_channels": sizes.mask_channels, **prerequisites}
    offer |= first_layer or {}
    if "imputer" in spec:
        offer["imputer"] = build("imputer", spec.pop("imputer"), offer=prerequisites)
    stem: Stem = build("stem", spec, offer=offer)
    stem.freeze()
    with torch.no_grad():
        blank = torch.zeros(1, *sizes.shape)
        _, channels, height, width = stem.eval()(blank, _full_mask(blank), _blank(stem, blank)).shape
    stem.train()
    return stem, channels, (height, width)


@contextmanager
def _fitting(sizes: Sizes) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch raises this if sizes do not fit
        reason = (str(error).splitlines() or [""])[0]
        raise LacunaError(f"stem.* or net.* do not fit images of shape {sizes.shape}: {reason}.") from error


def build_flow(config: Mapping[str, Any], sizes: Sizes) -> ACFlow:
    """The flow a recipe trains."""
    flow: ACFlow = build("flow", config["flow"], shape=sizes.shape)
    return flow


def build_imputer(config: Mapping[str, Any], sizes: Sizes, prerequisites: Mapping[str, nn.Module]) -> Imputer:
    """The imputer a recipe trains or fits, with its trained ``prerequisites``."""
    used = {name: prerequisites[name] for name in config["imputer"].get("prerequisites", ())}
    offer = {"shape": sizes.shape, "mask_channels": sizes.mask_channels, **used}
    imputer: Imputer = build("imputer", config["imputer"], offer=offer)
    return imputer


def build_classifier(
    config: Mapping[str, Any], sizes: Sizes, prerequisites: Mapping[str, nn.Module]
) -> IncompleteClassifier:
    """The classifier a recipe trains, with its trained ``prerequisites``.

    Raises:
        LacunaError: the data set has no labels, or its images are too small for the layers.
    """
    if sizes.outputs is None:
        raise LacunaError(f"data={config['data']['name']} has no labels: task=classify needs them (task=density not).")
    with _fitting(sizes):
        if is_network("net", config["net"]["type"]):
            return _behind_stem(config, sizes, prerequisites)
        stem, channels, size = build_stem(config, sizes, prerequisites)
        body = build("net", config["net"], filters=channels, size=size, classes=sizes.outputs)
    return IncompleteClassifier(stem, body)


def _behind_stem(
    config: Mapping[str, Any], sizes: Sizes, prerequisites: Mapping[str, nn.Module]
) -> IncompleteClassifier:
    """A network of torchvision or timm behind a stem that becomes its first convolution, if it is a convolution."""
    network: OutsideNet = build("net", config["net"], shape=sizes.shape, classes=sizes.outputs)
    stem, channels, _ = build_stem(config, sizes, prerequisites, network.first_layer)
    replaced = "filters" in inspect.signature(type(stem)).parameters
    return IncompleteClassifier(stem, network.behind(channels, replaced=replaced))


def build_autoencoder(
    config: Mapping[str, Any], sizes: Sizes, prerequisites: Mapping[str, nn.Module]
) -> IncompleteAutoencoder:
    """The auto-encoder a recipe trains, with its trained ``prerequisites``.

    Raises:
        LacunaError: the net is no auto-encoder, or the images are too small for the layers.
    """
    if not issubclass(find("net", config["net"]["type"]), WAE):
        raise LacunaError(f"net={config['net']['name']} is no auto-encoder: task=generate needs net=wae_... .")
    with _fitting(sizes):
        stem, channels, size = build_stem(config, sizes, prerequisites)
        wae: WAE = build("net", config["net"], filters=channels, size=size, shape=sizes.shape)
    return IncompleteAutoencoder(stem, wae)


BUILDERS: dict[str, Callable[[Mapping[str, Any], Sizes, Mapping[str, nn.Module]], nn.Module]] = {
    "density": lambda config, sizes, prerequisites: build_density(config, sizes),
    "flow": lambda config, sizes, prerequisites: build_flow(config, sizes),
    "impute": build_imputer,
    "classify": build_classifier,
    "generate": build_autoencoder,
}
"""Task -> the function that builds its model."""


def _full_mask(image: Tensor) -> Tensor:
    return torch.ones_like(image[:, :1], dtype=torch.bool)


def _blank(stem: Stem, blank: Tensor) -> Encoding:
    """An encoding for finding the stem's output size: an imputation has the size of the image, and no fit is needed."""
    return blank if isinstance(stem.frozen, Imputer) else None


def foreign(model: nn.Module, prerequisites: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """Prefixes of the model's state that belong to prerequisites, whose own runs store them."""
    others = {id(prerequisite) for prerequisite in prerequisites.values()}
    return tuple(f"{name}." for name, module in model.named_modules() if id(module) in others)


def save_weights(path: Path, model: nn.Module, prerequisites: Mapping[str, nn.Module], identity: str) -> None:
    """Write the model's weights, without those of prerequisites, as safetensors with the recipe's identity; atomic."""
    skip = foreign(model, prerequisites)
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if not k.startswith(skip or "\0")}
    with replacing(path) as temporary:
        save_file(state, temporary, {"recipe": identity})


def load_weights(path: Path, model: nn.Module, prerequisites: Mapping[str, nn.Module], identity: str) -> None:
    """Read what :func:`save_weights` wrote. Safetensors files contain no code.

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
    expected = {key for key in model.state_dict() if not key.startswith(foreign(model, prerequisites) or "\0")}
    try:
        if owner != identity or set(state) != expected:
            raise RuntimeError("it belongs to another model")
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise LacunaError(f"{path} does not fit its recipe: delete the run's folder and train it again.") from error
