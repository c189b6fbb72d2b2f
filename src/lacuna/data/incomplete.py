"""Incomplete images: batches of (pixels, mask of observed pixels), and the data sets that produce them.

An incomplete data set is a source combined with a mask scheme. Its images are kept on the device as uint8; a batch is
one gather. A training set erases missing pixels when it is built, so their truth cannot leak.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lacuna.data.masks import MaskScheme, NoMask
from lacuna.data.prepared import Arrays
from lacuna.errors import LacunaError

_Batch = TypeVar("_Batch", bound="Batch")
_CHUNK = 4096
RESIDENT_BYTES = 8 << 30


@dataclass
class Batch:
    """Incomplete images.

    Attributes:
        observed: float32 (torch's default type) (B, C, H, W) in [0, 1], zero where the mask is False.
        mask: bool (B, 1 or C, H, W), True = observed.
        label: int64 (B,) for classes, uint8 (B, A) for attributes, or None.
        index: int64 (B,), position in the stored split.
    """

    observed: Tensor
    mask: Tensor
    label: Tensor | None
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def to(self: _Batch, device: torch.device | str, non_blocking: bool = False) -> _Batch:
        """The same batch on another device."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            values[name] = None if value is None else value.to(device, non_blocking=non_blocking)
        return type(self)(**values)


@dataclass
class EvalBatch(Batch):
    """A batch for evaluation: with the truth of missing pixels.

    Attributes:
        truth: float32 (B, C, H, W) in [0, 1], zero where there is no truth.
        truth_mask: bool (B, 1 or C, H, W), True where there is a truth; False where the user's own data are missing.
    """

    truth: Tensor
    truth_mask: Tensor


class IncompleteImages:
    """Images of one split with the masks of one scheme, ready to be gathered into batches.

    A set of up to ``resident_bytes`` is held in memory on the device. A larger set stays memory-mapped on the host,
    where its batches are gathered and masked before they are sent to the device.

    Args:
        arrays: the stored split.
        scheme: decides which pixels are missing, in addition to those that the data lack (``arrays.observed``). If
            together they leave an image without an observed pixel, the first pixel present in the data is observed.
        seed, split: of the masks.
        index: positions in the split to use (int64); default: all. Masks depend on these positions, so an image has
            the same mask in every subset.
        keep_truth: give :class:`EvalBatch`; otherwise batches are :class:`Batch` and missing pixels are erased.
        classes: number of classes, stored as given.

    Attributes:
        whole: True only if no image can have a missing pixel.

    Raises:
        LacunaError: an image of the data has no observed pixel at all.
    """

    def __init__(
        self,
        arrays: Arrays,
        scheme: MaskScheme,
        *,
        seed: int,
        split: str,
        index: np.ndarray | None = None,
        keep_truth: bool = False,
        classes: int | None = None,
        device: torch.device | str = "cpu",
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        self.scheme, self.seed, self.split = scheme, seed, split
        self.keep_truth, self.classes = keep_truth, classes
        self.whole = isinstance(scheme, NoMask) and arrays.observed is None
        self._device = torch.device(device)
        self._stored = np.arange(len(arrays.images)) if index is None else np.asarray(index, np.int64)
        _, channels, height, width = arrays.images.shape
        self.shape: tuple[int, int, int] = (channels, height, width)
        self.resident = len(self._stored) * channels * height * width <= resident_bytes
        self._arrays: Arrays | None = None if self.resident else arrays
        self._index = torch.from_numpy(self._stored).to(self._device)
        labels = arrays.labels
        self._labels = None if labels is None else torch.from_numpy(labels[self._stored]).to(self._device)
        if self.resident:
            self._store(arrays)

    def _store(self, arrays: Arrays) -> None:
        """Gather, mask and (in a training set) erase, a cache-sized chunk at a time; then move to the device."""
        images, masks, truth_masks = [], [], []
        for rows in np.array_split(self._stored, max(1, -(-len(self._stored) // _CHUNK))):
            image, mask, truth_mask = self._gather(arrays, rows)
            images.append(image)
            masks.append(mask)
            truth_masks.append(truth_mask)
        self._images = torch.cat(images).to(self._device)
        self._masks = _joined(masks).to(self._device)
        self._truth_masks = _joined(truth_masks).to(self._device)

    def _gather(self, arrays: Arrays, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 images, masks and truth masks at the stored positions ``rows``, on the host."""
        image = torch.from_numpy(arrays.images[rows])
        mask = self.scheme(torch.from_numpy(rows), self.shape, seed=self.seed, split=self.split)
        truth_mask = torch.ones((1, 1, 1, 1), dtype=torch.bool).expand(len(rows), 1, *self.shape[1:])
        if arrays.observed is not None:
            truth_mask = torch.from_numpy(arrays.observed[rows])
            _check_observed(truth_mask, rows, self.split)
            mask = _combined(mask, truth_mask)
        erased = ~(truth_mask if self.keep_truth else mask)
        if arrays.observed is not None or not (self.keep_truth or isinstance(self.scheme, NoMask)):
            image = image.masked_fill(erased, 0)
        return image, mask, truth_mask

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def device(self) -> torch.device:
        """The device on which batches are."""
        return self._device

    @property
    def index(self) -> Tensor:
        """Positions of the images in the stored split, int64 (N,)."""
        return self._index

    @property
    def labels(self) -> Tensor | None:
        """Labels of all images, int64 (N,) for classes or uint8 (N, A) for attributes, or None."""
        return self._labels

    def to(self, device: torch.device | str) -> IncompleteImages:
        """Move the set to ``device``, in place as a module does."""
        if torch.device(device) == self._device:
            return self
        self._device = torch.device(device)
        self._index = self._index.to(device)
        self._labels = None if self._labels is None else self._labels.to(device)
        if self.resident:
            self._images, self._masks = self._images.to(device), self._masks.to(device)
            self._truth_masks = self._truth_masks.to(device)
        return self

    def batch(self, positions: Any) -> Batch:
        """The images at ``positions`` of this set (int64 (B,)): an :class:`EvalBatch` with ``keep_truth``."""
        at = torch.as_tensor(positions, dtype=torch.int64)
        if self.resident:
            at = at.to(self._device, non_blocking=True)
            image, mask = self._images.index_select(0, at), _rows(self._masks, at)
            truth_mask = _rows(self._truth_masks, at) if self.keep_truth else mask
        else:
            image, mask, truth_mask = self._from_host(at.cpu())
            at = at.to(self._device, non_blocking=True)
        label = None if self._labels is None else self._labels.index_select(0, at)
        index = self._index.index_select(0, at)
        truth = image.to(torch.get_default_dtype()).div_(255)
        if not self.keep_truth:  # missing pixels are erased already: this is the observed image
            return Batch(observed=truth, mask=mask, label=label, index=index)
        observed = truth.masked_fill(~mask, 0)
        return EvalBatch(observed=observed, mask=mask, label=label, index=index, truth=truth, truth_mask=truth_mask)

    def _from_host(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert self._arrays is not None
        gathered = self._gather(self._arrays, self._stored[at.numpy()])
        if self._device.type != "cuda":
            return gathered
        image, mask, truth_mask = (x.contiguous().pin_memory().to(self._device, non_blocking=True) for x in gathered)
        return image, mask, truth_mask


def _joined(masks: list[Tensor]) -> Tensor:
    """Concatenate masks; if all are True everywhere, return a single row for all images, to save memory."""
    if all(bool(mask.all()) for mask in masks):
        return masks[0].new_ones((1, 1, *masks[0].shape[2:]))
    return torch.cat(masks)


def _rows(masks: Tensor, at: Tensor) -> Tensor:
    """The masks of the images ``at``; ``masks`` as :func:`_joined` returned them."""
    return masks.index_select(0, at if len(masks) > 1 else torch.zeros_like(at))


def _combined(mask: Tensor, present: Tensor) -> Tensor:
    """Observed in both; an image left without an observed value keeps the first that is ``present`` in the data."""
    both = mask & present
    flat = both.flatten(1)
    empty = ~flat.any(1)
    wide = present.expand_as(both).flatten(1)
    first = torch.arange(wide.shape[1]) == wide.to(torch.uint8).argmax(1, keepdim=True)
    return (flat | (first & empty[:, None])).view_as(both)


def _check_observed(observed: Tensor, rows: np.ndarray, split: str) -> None:
    empty = (~observed.flatten(1).any(1)).nonzero()
    if len(empty):
        raise LacunaError(
            f"Image {rows[int(empty[0])]} of the split '{split}' has no observed pixel: remove it from the data."
        )
