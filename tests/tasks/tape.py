"""A stand-in for CUDA graphs that runs on any device: it records the operations of a step, and repeats them.

As a graph does, a replay repeats the operations on the very tensors of the recording and runs no Python. What a step
decides on the host, or keeps in tensors that it replaces, is frozen by that; what waits for the device is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense,  # item(), float(tensor), bool(tensor)
    aten.nonzero,
    aten.masked_select,
    aten.is_nonzero,
    aten.equal,
    aten._linalg_check_errors,
    aten.lift_fresh,  # torch.tensor(...): a copy from the host
    aten.repeat_interleave,
    aten.bincount,
    aten._unique2,
}
"""Operations that wait for the device, or copy from pageable memory of the host, which a graph cannot contain."""
INDEXING = {aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_}


class Tape(TorchDispatchMode):
    """Records what runs inside it."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet in WAITS or (packet in INDEXING and any(_is_mask(index) for index in tree_leaves(args[1]))):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        out = func(*args, **kwargs)
        given = {_storage(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        # views, and what is changed in place, share the memory of an argument
        new = [value.detach() for value in tree_leaves(out) if isinstance(value, Tensor)]
        keep = tree_map(lambda value: value, (args, kwargs))  # lists of tensors may be changed later
        self._calls.append((func, *keep, [value if _storage(value) not in given else None for value in new]))  # type: ignore[list-item]
        return out

    @torch.no_grad()
    def replay(self) -> None:
        """Repeat everything, in the same memory."""
        for func, args, kwargs, kept in self._calls:
            found = [value for value in tree_leaves(func(*args, **kwargs)) if isinstance(value, Tensor)]
            for old, new in zip(kept, found, strict=True):
                if old is not None:
                    old.copy_(new)


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


class TapeRecorder:
    """Records steps on tapes. Recording runs a step, which a graph's does not; so the first replay is skipped."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def together(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def record(self, step: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], Any]]:
        tape = Tape()
        with tape:
            loss = step()
        self.recorded += 1
        ran = [True]

        def replay() -> None:
            if ran:
                ran.clear()
            else:
                self.replayed += 1
                tape.replay()

        return loss, replay
