"""From a recipe to the model it trains; also how a stored run becomes a model again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from lacuna.layers.stem import ImputeStem, Representation, Stem
from lacuna.registry import build


@dataclass(frozen=True)
class Sizes:
    """What a model must know of the data: shape (C, H, W), number of classes (None without labels), mask channels."""

    shape: tuple[int, int, int]
    classes: int | None = None
    mask_channels: int = 1

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Sizes:
        """Back from :meth:`plain`."""
        channels, height, width = plain["shape"]
        return cls((channels, height, width), plain["classes"], plain["mask_channels"])


class IncompleteClassifier(nn.Module):
    """A stem and what stands behind it: (observed, mask) -> logits (B, classes)."""

    def __init__(self, stem: Stem, body: nn.Module) -> None:
        super().__init__()
        self.stem, self.body = stem, body

    def forward(self, observed: Tensor, mask: Tensor, representation: Representation = None) -> Tensor:
        """Logits; ``observed`` (B,C,H,W) in [0,1] is read only where ``mask`` (bool, True = observed)."""
        logits: Tensor = self.body(self.stem(torch.where(mask, observed, 0), mask, representation))
        return logits


def build_model(content: Mapping[str, Any], sizes: Sizes, parts: Mapping[str, nn.Module]) -> nn.Module:
    """The model that a recipe trains, on top of its already trained ``parts``."""
    return BUILDERS[content["task"]["name"]](content, sizes, parts)


def build_density(content: Mapping[str, Any], sizes: Sizes) -> Density:
    """The density a recipe trains."""
    density: Density = build("density", content["density"], shape=sizes.shape)
    return density


def build_classifier(content: Mapping[str, Any], sizes: Sizes, parts: Mapping[str, nn.Module]) -> IncompleteClassifier:
    """The classifier a recipe trains, on top of its already trained ``parts``.

    Raises:
        LacunaError: the data set has no labels, or its images are too small for the layers.
    """
    if sizes.classes is None:
        raise LacunaError(f"data={content['data']['name']} has no labels: task=classify needs them (task=density not).")
    spec = dict(content["stem"])
    offer: dict[str, Any] = {"channels": sizes.shape[0], "mask_channels": sizes.mask_channels, **parts}
    if "imputer" in spec:
        offer["imputer"] = build("imputer", spec.pop("imputer"), offer=parts)
    stem: Stem = build("stem", spec, offer=offer)
    stem.freeze()
    try:
        with torch.no_grad():
            blank = torch.zeros(1, *sizes.shape)
            size = stem.eval()(blank, torch.ones_like(blank[:, :1], dtype=torch.bool), _blank(stem, blank)).shape
        stem.train()
        body = build("net", content["net"], filters=size[1], size=tuple(size[2:]), classes=sizes.classes)
    except RuntimeError as error:  # torch's way to say that sizes do not fit
        reason = (str(error).splitlines() or [""])[0]
        raise LacunaError(f"stem.* or net.* do not fit images of shape {sizes.shape}: {reason}.") from error
    return IncompleteClassifier(stem, body)


BUILDERS: dict[str, Callable[[Mapping[str, Any], Sizes, Mapping[str, nn.Module]], nn.Module]] = {
    "density": lambda content, sizes, parts: build_density(content, sizes),
    "classify": build_classifier,
}
"""Task -> what makes its model."""


def _blank(stem: Stem, blank: Tensor) -> Representation:
    """A representation to measure the stem with: an imputer may not be fitted yet, or need real values."""
    return blank if isinstance(stem, ImputeStem) else None


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
