"""Training on two devices with the same random numbers, so that what differs is the arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DRAWS = (
    "rand",
    "rand_like",
    "randn",
    "randn_like",
    "randint",
    "randint_like",
    "randperm",
    "bernoulli",
    "bernoulli_",
    "multinomial",
    "normal",
    "normal_",
    "uniform_",
    "exponential_",
    "random_",
)
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution")


class SameRandomNumbers(TorchDispatchMode):
    """Everything random is drawn by the CPU's generator and moved to where it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._twins: dict[int, tuple[torch.Generator, torch.Generator]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        name = func.overloadpacket.__name__
        if name == "native_dropout":  # of GPUs; the CPU draws for it as here
            return self._dropout(*args, **named)
        if name not in DRAWS:
            return func(*args, **named)
        first = next((value for value in args if isinstance(value, Tensor)), None)
        device = torch.device(named.get("device") or ("cpu" if first is None else first.device))
        if device.type != "cuda":
            return func(*args, **named)
        if named.get("device") is not None:
            named["device"] = "cpu"
        if named.get("generator") is not None:
            named["generator"] = self._twin(named["generator"])
        drawn = func(*tree_map(_to_cpu, args), **tree_map(_to_cpu, named))
        if name.endswith("_"):
            assert first is not None
            return first.copy_(drawn)
        return drawn.to(device)

    def _twin(self, generator: torch.Generator) -> torch.Generator:
        """A generator of the CPU that was seeded as one of a GPU."""
        if generator.device.type == "cpu":
            return generator
        if id(generator) not in self._twins:
            twin = torch.Generator().manual_seed(generator.initial_seed())
            self._twins[id(generator)] = (generator, twin)  # kept alive, so that its id stays its own
        return self._twins[id(generator)][1]

    @staticmethod
    def _dropout(values: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
        if not train:
            return values, torch.ones_like(values, dtype=torch.bool)
        kept = torch.empty_like(values, device="cpu").bernoulli_(1 - p).to(values.device)
        return values * (kept / (1 - p)), kept.bool()


class Rounded(SameRandomNumbers):
    """Besides, every product of matrices and every convolution is wrong by random relative errors of so much."""

    def __init__(self, error: float) -> None:
        super().__init__()
        self.error = error
        self._noise = torch.Generator().manual_seed(5)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = super().__torch_dispatch__(func, types, args, kwargs)
        if func.overloadpacket.__name__ not in PRODUCTS or found.device.type != "cpu":
            return found
        noise = torch.randn(found.shape, generator=self._noise, dtype=found.dtype)
        return found + self.error * found.std(correction=0) * noise


def _to_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value
