"""The imputed training set: state of a training that goes on from its own imputations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.data.incomplete import Batch, IncompleteImages

STORED = torch.float16
"""Two bytes a value; the values in [0, 1] are off by 0.00025 at most."""


class ImputedSet(nn.Module):
    """The current imputation of every image of a set; observed pixels are always the data's own.

    It lives on the images' device or, where it is larger than ``limit_bytes``, on the host. A checkpoint holds it.

    Args:
        images: the set.
        limit_bytes: of the device's memory it may take.
        at_once: images a step when all of them are imputed.
    """

    def __init__(self, images: IncompleteImages, limit_bytes: float, at_once: int) -> None:
        super().__init__()
        self._images, self._limit, self._at_once = images, limit_bytes, at_once
        self._values: Tensor | None = None
        self._row: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Memory of the imputations."""
        return len(self._images) * torch.Size(self._images.shape).numel() * STORED.itemsize

    @property
    def filled(self) -> bool:
        """Whether there are imputations."""
        return self._values is not None

    @torch.no_grad()
    def begin(self, start: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Impute every image with ``start`` (observed, mask) -> (B,C,H,W)."""
        device = self._images.device if self.bytes <= self._limit else torch.device("cpu")
        values = torch.empty((len(self._images), *self._images.shape), dtype=STORED, device=device)
        for rows, batch in self._batches():
            values[rows] = start(batch.observed, batch.mask).to(device, STORED)
        self._values = values

    @torch.no_grad()
    def advance(self, onwards: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        """Replace every imputation by ``onwards`` (imputed, observed, mask) -> (B,C,H,W)."""
        assert self._values is not None
        for rows, batch in self._batches():
            found = onwards(self._pasted(self._values[rows], batch), batch.observed, batch.mask)
            self._values[rows] = found.to(self._values.device, STORED)

    def __call__(self, batch: Batch) -> Tensor:
        """The imputed images (B,C,H,W), float32, of a batch of the set."""
        assert self._values is not None
        if self._row is None:
            self._row = torch.full((int(self._images.index.max()) + 1,), -1, device=batch.index.device)
            self._row[self._images.index.to(batch.index.device)] = torch.arange(
                len(self._images), device=self._row.device
            )
        rows = self._row[batch.index].to(self._values.device)
        return self._pasted(self._values.index_select(0, rows), batch)

    def _pasted(self, values: Tensor, batch: Batch) -> Tensor:
        return torch.where(batch.mask, batch.observed, values.to(batch.observed.device, batch.observed.dtype))

    def _batches(self) -> Iterator[tuple[slice, Batch]]:
        for start in range(0, len(self._images), self._at_once):
            rows = slice(start, min(start + self._at_once, len(self._images)))
            yield rows, self._images.batch(torch.arange(rows.start, rows.stop))

    def training_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"values": self._values}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`training_state` gave."""
        values = state["values"]
        if values is not None and self.bytes <= self._limit:
            values = values.to(self._images.device)
        self._values = values
