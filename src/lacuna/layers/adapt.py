"""``adapt(model, density)``: make any CNN take (image, mask); only its first layer is changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from lacuna.errors import LacunaError
from lacuna.layers.expected import ACTIVATIONS, Formula
from lacuna.layers.misconv import MisConv2d
from lacuna.mfa import MFA

DensityModel = Callable[[Tensor, Tensor], MFA]

_FUNCTIONS = {functional.relu: "relu", torch.relu: "relu", functional.gelu: "gelu", functional.leaky_relu: "leaky_relu"}
_METHODS = {"relu": "relu", "relu_": "relu"}


class ExpectedBlock(nn.Module):
    """E[activation(norm(conv(Z)))] of the first convolution, an optional batch normalisation and the activation.

    Batch normalisation is affine in conv(Z), so it only scales and shifts the moments. In training mode its statistics
    are those of conv(Z): the batch mean of m and, by the law of total variance, the variance of m plus the mean of v.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, activation: Formula) -> None:
        super().__init__()
        self.conv = MisConv2d.from_conv(conv)
        self.norm = norm
        self._activation = activation

    def forward(self, density: MFA) -> Tensor:
        """MFA over (B, C, H, W) -> (B, out, H', W')."""
        m, v = self.conv.moments(density)
        weights = density.weights[:, :, None, None, None]
        if self.norm is not None:
            m, v = self._normalise(self.norm, m, v, weights)
        return (weights * self._activation(m, v)).sum(1)

    @staticmethod
    def _normalise(norm: nn.BatchNorm2d, m: Tensor, v: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, 1, -1, 1, 1)
        running_mean, running_var = norm.running_mean, norm.running_var
        if norm.training or running_mean is None or running_var is None:
            mean = (weights * m).sum(1).mean((0, 2, 3))
            spread = (weights * (v + (m - mean.view(shape)).square())).sum(1).mean((0, 2, 3))
            if norm.training and running_mean is not None and running_var is not None:
                batches = norm.num_batches_tracked
                assert batches is not None
                batches.add_(1)
                share = 1 / float(batches) if norm.momentum is None else norm.momentum
                count = m[:, 0, 0].numel()
                running_mean.lerp_(mean.detach(), share)
                running_var.lerp_(spread.detach() * count / max(count - 1, 1), share)
        else:
            mean, spread = running_mean, running_var
        scale = (spread + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        shift = -mean * scale + (0 if norm.bias is None else norm.bias)
        return m * scale.view(shape) + shift.view(shape), v * scale.square().view(shape)


class Adapted(nn.Module):
    """A CNN on incomplete images: ``adapted(image, mask)``, see :func:`adapt`."""

    def __init__(self, density: DensityModel, block: ExpectedBlock, body: nn.Module, frozen: bool) -> None:
        super().__init__()
        self.block, self.body, self.frozen = block, body, frozen
        self.density = density  # registered as a sub-module if it is a module
        if frozen and isinstance(density, nn.Module):
            density.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Adapted:
        """As usual, except that a frozen density stays in evaluation mode."""
        super().train(mode)
        if self.frozen and isinstance(self.density, nn.Module):
            self.density.eval()
        return self

    def forward(self, image: Tensor, mask: Tensor) -> Any:
        """The model's output for ``image`` (B,C,H,W), which is read only where ``mask`` (bool) is True = observed."""
        observed = torch.where(mask, image, 0)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            mfa = self.density(observed, mask)
        return self.body(self.block(mfa.pin(observed, mask)))


def adapt(model: nn.Module, density: DensityModel, *, frozen: bool = True, share: bool = True) -> Adapted:
    """Replace the first convolution of a CNN (with its batch normalisation and activation) by its expectation.

    On a complete image the adapted model returns what ``model`` returns; on an incomplete one its first activation is
    the expectation over ``density``. All weights are kept and remain trainable.

    Args:
        model: any CNN that :mod:`torch.fx` can trace and whose input goes into one ``nn.Conv2d`` followed, optionally
            after ``nn.BatchNorm2d``, by ReLU, LeakyReLU or GELU; for example torchvision's resnet18.
        density: (observed, mask) -> MFA, such as a trained DMFA.
        frozen: do not train the density (evaluation mode, no gradient).
        share: share the weights with ``model``; False copies them.

    Raises:
        LacunaError: the model cannot be traced, or its first convolution is not followed by such an activation.
    """
    model = model if share else copy.deepcopy(model)
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:
        raise LacunaError(f"adapt() cannot trace {type(model).__name__} ({error}); use MisConv2d directly.") from error
    modules = dict(model.named_modules())
    chain, block = _first_block(graph, modules, type(model).__name__)
    with graph.inserting_before(chain[0]):
        features = graph.placeholder("features")
    chain[-1].replace_all_uses_with(features)
    for node in reversed(chain):
        graph.erase_node(node)
    for node in list(graph.nodes):
        if node.op == "placeholder" and node is not features and not node.users:
            graph.erase_node(node)
    graph.lint()
    return Adapted(density, block, fx.GraphModule(model, graph), frozen)


def _first_block(graph: fx.Graph, modules: dict[str, nn.Module], name: str) -> tuple[list[fx.Node], ExpectedBlock]:
    """The nodes convolution -> (norm) -> activation that follow the model's input, and the block to replace them."""
    node = next(node for node in graph.nodes if node.op == "placeholder")
    node = _only_user(node, name)
    conv = modules.get(str(node.target)) if node.op == "call_module" else None
    if not isinstance(conv, nn.Conv2d):
        raise LacunaError(f"adapt(): the input of {name} goes into {node.target}, not into an nn.Conv2d.")
    chain, norm = [node], None
    node = _only_user(node, name)
    found = modules.get(str(node.target)) if node.op == "call_module" else None
    if isinstance(found, nn.BatchNorm2d):
        norm = found
        chain.append(node)
        node = _only_user(node, name)
    chain.append(node)
    return chain, ExpectedBlock(conv, norm, _activation(node, modules, name))


def _only_user(node: fx.Node, name: str) -> fx.Node:
    if len(node.users) != 1:
        raise LacunaError(f"adapt(): '{node.name}' of {name} is used in {len(node.users)} places; it must be one.")
    return next(iter(node.users))


def _activation(node: fx.Node, modules: dict[str, nn.Module], name: str) -> Formula:
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    kind, slope = None, 0.01
    if isinstance(module, nn.ReLU):
        kind = "relu"
    elif isinstance(module, nn.GELU) and module.approximate == "none":
        kind = "gelu"
    elif isinstance(module, nn.LeakyReLU):
        kind, slope = "leaky_relu", float(module.negative_slope)
    elif node.op == "call_function":
        kind = _FUNCTIONS.get(node.target)  # type: ignore[arg-type]
        if kind == "leaky_relu":
            slope = float(node.kwargs.get("negative_slope", node.args[1] if len(node.args) > 1 else 0.01))  # type: ignore[arg-type]
        elif kind == "gelu" and node.kwargs.get("approximate", "none") != "none":
            kind = None
    elif node.op == "call_method":
        kind = _METHODS.get(str(node.target))
    if kind is None:
        raise LacunaError(
            f"adapt(): the first convolution of {name} is followed by '{node.target}', which has no closed-form "
            "expectation here (ReLU, LeakyReLU and GELU have)."
        )
    if kind == "leaky_relu":
        leaky = ACTIVATIONS["leaky_relu"]
        return lambda m, v: leaky(m, v, slope)  # type: ignore[call-arg]
    return ACTIVATIONS[kind]
