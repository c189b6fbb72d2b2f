"""The imputed training set of MCFlow: every image's current imputation, which is part of the state of the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.data.incomplete import Batch, IncompleteImages

STORED = torch.float16
"""Type in which imputations are stored; the rounding error of values in [0, 1] is at most 0.00025."""


class ImputedSet(nn.Module):
    """The current imputation of every image of a set. Observed pixels are always read from the data.

    The imputations are kept on the images' device or, if they exceed ``limit_bytes``, in host memory. Checkpoints
    contain them.

    Args:
        images: the set.
        limit_bytes: device memory that the imputations may take.
        batch_size: images imputed at once.
    """

    def __init__(self, images: IncompleteImages, limit_bytes: float, batch_size: int) -> None:
        super().__init__()
        self._images, self._limit, self._batch_size = images, limit_bytes, batch_size
        self._values: Tensor | None = None
        self._row: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Memory of the imputations."""
        return len(self._images) * torch.Size(self._images.shape).numel() * STORED.itemsize

    @property
    def device(self) -> torch.device:
        """Where the imputations are kept."""
        return self._images.device if self.bytes <= self._limit else torch.device("cpu")

    @property
    def initialised(self) -> bool:
        """Whether there are imputations yet."""
        return self._values is not None

    @torch.no_grad()
    def initialise(self, impute: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Impute every image with ``impute``: (observed, mask) -> (B,C,H,W)."""
        values = torch.empty((len(self._images), *self._images.shape), dtype=STORED, device=self.device)
        for rows, batch in self._batches():
            values[rows] = impute(batch.observed, batch.mask).to(self.device, STORED)
        self._values = values

    @torch.no_grad()
    def update(self, refine: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        """Replace every imputation by ``refine``: (imputed, observed, mask) -> (B,C,H,W)."""
        assert self._values is not None
        for rows, batch in self._batches():
            refined = refine(self._with_observed(self._values[rows], batch), batch.observed, batch.mask)
            self._values[rows] = refined.to(self._values.device, STORED)

    def __call__(self, batch: Batch) -> Tensor:
        """The imputed images (B,C,H,W), float32, of a batch of the set."""
        assert self._values is not None
        if self._row is None:
            self._row = torch.full((int(self._images.index.max()) + 1,), -1, device=batch.index.device)
            self._row[self._images.index.to(batch.index.device)] = torch.arange(
                len(self._images), device=self._row.device
            )
        rows = self._row[batch.index].to(self._values.device)
        return self._with_observed(self._values.index_select(0, rows), batch)

    def _with_observed(self, values: Tensor, batch: Batch) -> Tensor:
        return torch.where(batch.mask, batch.observed, values.to(batch.observed.device, batch.observed.dtype))

    def _batches(self) -> Iterator[tuple[slice, Batch]]:
        for start in range(0, len(self._images), self._batch_size):
            rows = slice(start, min(start + self._batch_size, len(self._images)))
            yield rows, self._images.batch(torch.arange(rows.start, rows.stop))

    def training_state(self) -> dict[str, Any]:
        """The state that a checkpoint keeps."""
        return {"values": self._values}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""
        values = state["values"]
        if values is not None and self.bytes <= self._limit:
            values = values.to(self._images.device)
        self._values = values
