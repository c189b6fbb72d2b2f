"""The optimiser of all tasks, whose steps may be part of a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Adam(torch.optim.Adam):
    """Adam by a fused kernel, which needs a single pass over weights, gradients and moments.

    On the CPU it does without torch's check, in every step, whether a CUDA graph is being captured: under Lightning,
    torch looks for NVIDIA's driver library each time, which takes a tenth of a small network's step.
    """

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, fused=True, **options)

    def _accelerator_graph_capture_health_check(self) -> None:
        if self.param_groups[0]["params"][0].device.type != "cpu":
            super()._accelerator_graph_capture_health_check()

    def _cuda_graph_capture_health_check(self) -> None:  # its name in earlier versions of torch
        if self.param_groups[0]["params"][0].device.type != "cpu":
            super()._cuda_graph_capture_health_check()


def set_rate(group: dict[str, Any], lr: float) -> None:
    """Set the learning rate of a parameter group, in place where it is a tensor: a graph has recorded its address."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def make_capturable(optimizers: Iterable[Optimizer], device: torch.device, dtype: torch.dtype = torch.float32) -> None:
    """Prepare Adam, fused, for capture: learning rates on the device, and no decision on the host in its step.

    CUDA's fused step reads learning rates of type float32 only.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"], dtype=dtype).to(device)
            group["capturable"] = True
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
