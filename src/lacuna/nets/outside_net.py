"""Classifiers of torchvision and timm by name, behind any stem: their first convolution becomes the stem."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.errors import LacunaError
from lacuna.extras import require

FRAMEWORK = ("num_classes", "in_chans", "device")
"""Arguments of networks that are given by the data."""
WEIGHTS = ("weights", "weights_backbone", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path")
"""Arguments that would fetch trained weights, whose first layer and classes are others."""
GEOMETRY = ("kernel_size", "stride", "padding")


class OutsideNet(nn.Module):
    """A network of torchvision (``torchvision.models.resnet18``) or timm (``timm.resnet18``), randomly initialised.

    Call :meth:`behind` once the stem is known. The stem is then the network's first convolution, followed by ReLU as
    in every stem; the network's other layers are unchanged. Where batch normalisation and ReLU follow a network's first
    convolution, they follow the stem's ReLU here. (:func:`lacuna.adapt` puts MisConv before the normalisation.)

    Args:
        network: its name: a classifier of ``torchvision.models``, or ``timm.`` and a name that timm knows.
        shape: (C, H, W) of the images.
        classes: number of outputs.
        first_layer: ``kernel_size``, ``stride`` and ``padding`` of the first convolution, where they are to differ from
            the network's: ``{kernel_size: 3, stride: 1, padding: 1}`` suits small images.
        arguments: of the network.

    Raises:
        LacunaError: there is no such network, it does not take such images or arguments, or does not begin with a
            convolution.

    Shape:
        the stem's features (B, F, H', W') -> logits (B, classes).
    """

    def __init__(
        self,
        network: str,
        shape: Sequence[int],
        classes: int,
        first_layer: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        self.name, self.shape, self.classes = network, tuple(shape), classes
        _check_arguments(network, arguments)
        with torch.device("meta"):  # tried on no memory
            trial = _created(network, classes, arguments)
            self._first = self._first_convolution(trial)
            conv: Any = trial.get_submodule(self._first)
            self._bias = conv.bias is not None
            self.first_layer = {"filters": conv.out_channels, **_geometry(conv, first_layer, network)}
            """``filters``, ``kernel_size``, ``stride``, ``padding`` of the stem that becomes the first convolution."""
            trial.set_submodule(self._first, self._new_convolution(self.shape[0]))
            self._last = self._tried(trial)
        self.network = _created(network, classes, arguments)
        for module in self.network.modules():
            if getattr(module, "inplace", False) is True:  # the stem's features are still needed
                module.inplace = False  # type: ignore[assignment]

    def behind(self, channels: int, *, replaced: bool) -> OutsideNet:
        """This network behind a stem.

        Args:
            channels: of the stem's features.
            replaced: whether the stem is the first convolution; otherwise the network keeps one of its own, which
                takes the stem's output (the image, say).
        """
        layer = _Given() if replaced else self._new_convolution(channels)
        self.network.set_submodule(self._first, layer)
        return self

    def forward(self, features: Tensor) -> Tensor:
        """The logits (B, classes)."""
        layer = self.network.get_submodule(self._first)
        image = features
        if isinstance(layer, _Given):
            # only its shape is read, by networks that look at it before their first convolution
            image = features.new_zeros(()).expand(len(features), *self.shape)
            layer.features = features
        logits: Tensor = self.network(image)
        return logits

    def features(self, features: Tensor) -> Tensor:
        """What the last, fully connected layer takes, (B, d), for FID.

        Raises:
            LacunaError: the network does not end in such a layer.
        """
        if self._last is None:
            raise LacunaError(f"net.type={self.name} does not end in a fully connected layer: it has no features.")
        found: list[Tensor] = []
        hook = self.network.get_submodule(self._last).register_forward_pre_hook(
            lambda module, taken: found.append(taken[0])
        )
        try:
            self(features)
        finally:
            hook.remove()
        return found[-1].flatten(1)

    def _new_convolution(self, channels: int) -> nn.Conv2d:
        sizes = dict(self.first_layer)
        return nn.Conv2d(channels, sizes.pop("filters"), **sizes, bias=self._bias)

    def _first_convolution(self, network: nn.Module) -> str:
        """The name of the convolution that the image enters: the first one that is called."""
        convolutions = {name: part for name, part in network.named_modules() if isinstance(part, nn.Conv2d)}
        called: list[str] = []

        def reached(name: str) -> None:
            called.append(name)
            raise _Reached

        hooks = [
            part.register_forward_pre_hook(lambda module, taken, name=name: reached(name))
            for name, part in convolutions.items()
        ]
        channels = next((part.in_channels for part in convolutions.values()), 3)
        try:
            network(torch.zeros(1, channels, *self.shape[1:]))
        except _Reached:
            pass
        except Exception as error:  # whatever a network raises of images that it does not take
            raise self._refused(error) from error
        finally:
            for hook in hooks:
                hook.remove()
        if not called or not _is_plain(convolutions[called[0]]):
            raise LacunaError(f"net.type={self.name} does not begin with an ordinary convolution: choose another one.")
        return called[0]

    def _tried(self, network: nn.Module) -> str | None:
        """Try a network on two images; the name of its last layer, if that is fully connected."""
        linear: list[tuple[str, Any]] = []
        for name, module in network.named_modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(lambda module, taken, out, name=name: linear.append((name, out)))
        try:
            found = network.train()(torch.zeros(2, *self.shape))
        except Exception as error:  # whatever a network raises of images that it does not take
            raise self._refused(error) from error
        if not isinstance(found, Tensor) or found.shape != (2, self.classes):
            raise LacunaError(
                f"net.type={self.name} returns {type(found).__name__}, not logits (B, {self.classes}): switch further "
                "outputs off by its arguments, such as +net.aux_logits=false, or choose another network."
            )
        return next((name for name, out in reversed(linear) if out is found), None)

    def _refused(self, error: Exception) -> LacunaError:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        return LacunaError(
            f"net.type={self.name} does not take images of {'x'.join(map(str, self.shape))} ({reason}): choose larger "
            "images or a network for small ones, or set net.first_layer='{kernel_size: 3, stride: 1, padding: 1}'."
        )


class _Reached(Exception):
    """Ends a forward pass at the first convolution."""


class _Given(nn.Module):
    """Stands where a network's first convolution was, and returns what the stem has computed."""

    features: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor:
        features, self.features = self.features, None
        assert features is not None
        return features


def _check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    for key in arguments:
        if key in WEIGHTS:
            raise LacunaError(f"net.{key}: net.type={name} is trained from random weights: leave out net.{key}.")
        if key in FRAMEWORK:
            raise LacunaError(f"net.{key} is given by the data: leave it out.")


def _created(name: str, classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    """A network on the current device."""
    try:
        return _new(name, classes, arguments)
    except RuntimeError:
        here = torch.empty(0).device
        if here.type != "meta":
            raise
        with torch.device("cpu"):  # RegNets compute their widths with tensors, which needs memory
            return _new(name, classes, arguments).to(here)


def _new(name: str, classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    package, _, model = name.partition(".")
    try:
        if package == "timm":
            timm = require("timm", "timm", f"net.type={name}")
            _check_known(name, "timm.", model, timm.list_models())
            created: nn.Module = timm.create_model(model, num_classes=classes, **arguments)
        else:
            models: Any = importlib.import_module("torchvision.models")
            _check_known(name, "torchvision.models.", model.removeprefix("models."), models.list_models(module=models))
            created = models.get_model(model.removeprefix("models."), weights=None, num_classes=classes, **arguments)
    except TypeError as error:
        raise LacunaError(f"net ({name}): {error}.") from error
    return created


def _check_known(name: str, prefix: str, model: str, known: Sequence[str]) -> None:
    if name == prefix + model and model in known:
        return
    near = difflib.get_close_matches(model.rpartition(".")[2].lower(), known, 1)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"names are as in {prefix}resnet18."
    raise LacunaError(f"net.type={name}: there is no such network; {hint}")


def _is_plain(conv: nn.Conv2d) -> bool:
    padded = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    known = type(conv) is nn.Conv2d or _pads_itself(conv)
    return known and padded and conv.groups == 1 and conv.dilation == (1, 1)


def _pads_itself(conv: nn.Conv2d) -> bool:
    """Whether it is timm's convolution that pads as TensorFlow does: by half a kernel, but not on all sides equally."""
    return type(conv).__name__ == "Conv2dSame"


def _geometry(conv: nn.Conv2d, first_layer: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    found = {key: getattr(conv, key) for key in GEOMETRY}
    if _pads_itself(conv):
        found["padding"] = tuple(size // 2 for size in conv.kernel_size)
    for key, value in (first_layer or {}).items():
        if key not in GEOMETRY:
            raise LacunaError(f"net.first_layer.{key}: the keys of first_layer are {', '.join(GEOMETRY)}.")
        if isinstance(value, bool) or not isinstance(value, int) or value < (0 if key == "padding" else 1):
            raise LacunaError(f"net.first_layer.{key}={value} of net.type={name} must be a whole number.")
        found[key] = value
    return found
