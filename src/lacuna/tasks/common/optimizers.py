"""The optimisers of all tasks, whose steps may be part of a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

BETAS = (0.9, 0.999)
"""Decay of Adam's moments, as in both papers."""


class _CaptureUnchecked:
    """An optimiser that on the CPU does without torch's check, in every step, whether a CUDA graph is being captured.

    Under Lightning, torch looks for NVIDIA's driver library each time, which takes a tenth of a small network's step.
    """

    param_groups: list[dict[str, Any]]

    def _accelerator_graph_capture_health_check(self) -> None:
        if self.param_groups[0]["params"][0].device.type != "cpu":
            super()._accelerator_graph_capture_health_check()  # type: ignore[misc]

    def _cuda_graph_capture_health_check(self) -> None:  # its name in earlier versions of torch
        if self.param_groups[0]["params"][0].device.type != "cpu":
            super()._cuda_graph_capture_health_check()  # type: ignore[misc]


class Adam(_CaptureUnchecked, torch.optim.Adam):
    """Adam by a fused kernel, which needs a single pass over weights, gradients and moments."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, fused=True, **options)


class AdamW(_CaptureUnchecked, torch.optim.AdamW):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), fused."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, fused=True, **options)


class SGD(_CaptureUnchecked, torch.optim.SGD):
    """Stochastic gradient descent, fused: the other kernels of torch wait for a learning rate on the device."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, fused=True, **options)


class RMSprop(Optimizer):
    """RMSprop with momentum, as torch's, which on the CPU waits for a learning rate in a tensor.

    Args:
        params: weights, or parameter groups.
        lr: learning rate.
        alpha: decay of the mean square v of the gradient g.
        eps: added to its root.
        weight_decay: g gets weight_decay times the weight.
        momentum: of the steps g / (sqrt(v) + eps).
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the weights."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["square"] = torch.zeros_like(weight)
                    if group["momentum"]:
                        self.state[weight]["velocity"] = torch.zeros_like(weight)
            self._update(group, weights)

    def _update(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        gradients: list[Tensor] = [weight.grad for weight in weights if weight.grad is not None]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        squares = [self.state[weight]["square"] for weight in weights]
        torch._foreach_mul_(squares, group["alpha"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["alpha"])
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, group["eps"])
        steps = list(torch._foreach_div(gradients, roots))
        if group["momentum"]:
            velocities = [self.state[weight]["velocity"] for weight in weights]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, steps)
            steps = velocities
        torch._foreach_sub_(weights, torch._foreach_mul(steps, group["lr"]))


class NAdam(_CaptureUnchecked, torch.optim.NAdam):
    """Adam with Nesterov momentum (Dozat 2016)."""


class RAdam(_CaptureUnchecked, torch.optim.RAdam):
    """Rectified Adam (Liu et al. 2020)."""


CLASSES: dict[str, type[Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
    "radam": RAdam,
    "rmsprop": RMSprop,
    "sgd": SGD,
}
"""By name: those of :data:`lacuna.config.training_options.OPTIMIZERS`."""


def make_optimizer(training: Mapping[str, Any], params: Any, betas: tuple[float, float] = BETAS) -> Optimizer:
    """The optimiser of a training, by default Adam; it clips gradients where the training says so.

    Args:
        training: its settings: ``lr`` and the options of :mod:`lacuna.config.training_options`.
        params: weights, or parameter groups.
        betas: of a method's Adam, where the training does not set them.
    """
    name = training.get("optimizer", "adam")
    options: dict[str, Any] = {"lr": training["lr"], "weight_decay": training.get("weight_decay", 0.0)}
    if name in ("sgd", "rmsprop"):
        options["momentum"] = training.get("momentum", 0.0)
    else:
        options["betas"] = tuple(training.get("betas") or betas)
    optimizer = CLASSES[name](params, **options)
    norm, value = training.get("gradient_clip"), training.get("gradient_clip_value")
    if norm is not None or value is not None:
        optimizer.register_step_pre_hook(lambda stepping, args, kwargs: clip_gradients(stepping, norm, value))
    return optimizer


@torch.no_grad()
def clip_gradients(optimizer: Optimizer, norm: float | None, value: float | None) -> None:
    """Clip the gradients of all weights of an optimiser, on the device, without waiting for it.

    First each value is clipped to [-value, value], then all are scaled so that their norm is at most ``norm``. In half
    precision the gradients of a scaled loss are divided by that scale first. A norm that is not finite makes the
    weights NaN, which ends the training.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not gradients:
        return
    scale = getattr(optimizer, "grad_scale", None)  # torch's GradScaler leaves the division to fused optimisers
    if scale is not None:
        torch._foreach_div_(gradients, scale)
        optimizer.grad_scale = None  # type: ignore[attr-defined]
    if value is not None:
        torch._foreach_clamp_min_(gradients, -value)
        torch._foreach_clamp_max_(gradients, value)
    if norm is not None:
        total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, norm / total.clamp(min=norm))


def set_rate(group: dict[str, Any], lr: float) -> None:
    """Set the learning rate of a parameter group, in place where it is a tensor: a graph has recorded its address."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def make_capturable(optimizers: Iterable[Optimizer], device: torch.device, dtype: torch.dtype = torch.float32) -> None:
    """Prepare optimisers for capture: learning rates on the device, and no decision on the host in a step.

    CUDA's fused steps read learning rates of type float32 only.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"], dtype=dtype).to(device)
            if "capturable" in group:  # SGD and RMSprop count no steps
                group["capturable"] = True
        for state in optimizer.state.values():  # torch loads counters of steps, if not fused, to the host
            for name in ("step", "mu_product"):
                if name in state:
                    state[name] = state[name].to(device)
        # torch warns of eager steps, of which there are some: warm-up, incomplete batches
        optimizer._warned_capturable_if_run_uncaptured = True


def match_layout(optimizers: Iterable[Optimizer]) -> None:
    """Give the state of every weight the weight's memory layout, which a fused step requires of a loaded state."""
    for optimizer in optimizers:
        for weight, state in optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                    state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state_dict as if it had not been made capturable; checkpoints serve any device."""
    groups = [
        {**group, "lr": float(group["lr"]), **({"capturable": False} if "capturable" in group else {})}
        for group in state["param_groups"]
    ]
    return {**state, "param_groups": groups}
