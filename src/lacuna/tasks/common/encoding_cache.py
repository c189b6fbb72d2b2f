"""A cache for the encodings (densities or imputations) that a stem's frozen model computes.

An image has the same mask in every epoch, so its encoding is constant. Only values at missing pixels are stored: at
observed pixels the encoding equals the image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lacuna.data.incomplete import Batch, IncompleteImages
from lacuna.errors import LacunaError
from lacuna.files import replacing
from lacuna.mfa import MFA

Encoding = Tensor | MFA | None
Encode = Callable[[Tensor, Tensor], Encoding]


class EncodingCache:
    """Encodings of all images of a data set, stored at missing pixels only.

    Args:
        images: the data set.
        encode: (observed, mask) -> imputed image, or MFA pinned to the observed pixels, or None.
        limit_bytes: largest size of the cache.
        batch_size: images per step while the cache is filled.
        file: from which encodings are read, or else written for other runs; None: memory only.

    Attributes:
        filled: whether the encodings are available; False if they exceed the limit or ``encode`` returns None.
    """

    def __init__(
        self,
        images: IncompleteImages,
        encode: Encode,
        limit_bytes: float,
        batch_size: int = 250,
        file: Path | None = None,
    ) -> None:
        self._row = torch.full((int(images.index.max()) + 1,), -1, device=images.device)
        self._row[images.index] = torch.arange(len(images), device=images.device)
        self._positions: Tensor | None = None
        self._values: Tensor | None = None
        self._logits: Tensor | None = None
        self._rank = -1
        self.filled = file is not None and self._read(file, images, limit_bytes)
        if not self.filled:
            self.filled = self._fill(images, encode, limit_bytes, batch_size)
            if self.filled and file is not None:
                self._write(file)

    def _fill(self, images: IncompleteImages, encode: Encode, limit: float, size: int) -> bool:
        width = max((int((~b.mask).flatten(1).sum(1).max()) for b in _batches(images, size)), default=0)
        for start, batch in zip(range(0, len(images), size), _batches(images, size), strict=True):
            encoding = encode(batch.observed, batch.mask)
            if encoding is None:
                return False
            fields, logits, rank = _fields(encoding)
            shared = batch.mask.shape[1] == 1
            fields = fields.flatten(3) if shared else fields.flatten(2).unsqueeze(2)  # (B, F, C or 1, P)
            # missing pixels first, in order; an image with fewer than `width` has observed ones too, pinned again later
            order = batch.mask.flatten(1).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
            if self._values is None:
                shape = (len(images), *fields.shape[1:3], width)
                others = len(images) * (width + (0 if logits is None else logits.shape[1]))
                if 4 * (torch.Size(shape).numel() + others) + self._row.nbytes > limit:
                    return False
                self._values = fields.new_empty(shape)
                self._positions = torch.empty((len(images), width), dtype=torch.int32, device=order.device)
                self._logits = None if logits is None else logits.new_empty((len(images), logits.shape[1]))
                self._rank = rank
            rows = slice(start, start + len(batch))
            assert self._positions is not None
            self._values[rows] = fields.gather(3, order[:, None, None].expand(-1, *fields.shape[1:3], -1))
            self._positions[rows] = order.to(torch.int32)
            if self._logits is not None and logits is not None:
                self._logits[rows] = logits
        return self._values is not None

    def _read(self, file: Path, images: IncompleteImages, limit: float) -> bool:
        """Whether the file could be read; a file that is damaged or too large is ignored."""
        if not file.exists() or file.stat().st_size + self._row.nbytes > limit:
            return False
        try:
            kept = load_file(file, device=str(images.device))
            values, positions = kept["values"], kept["positions"]
        except (OSError, SafetensorError, KeyError):
            return False
        if not len(values) == len(positions) == len(images):
            return False
        self._values, self._positions, self._logits = values, positions, kept.get("logits")
        if self._logits is not None:  # mean, noise and factors of each component
            self._rank = values.shape[1] // self._logits.shape[1] - 2
        return True

    def _write(self, file: Path) -> None:
        kept = {"values": self._values, "positions": self._positions, "logits": self._logits}
        # a full disk must not stop training
        with contextlib.suppress(LacunaError, SafetensorError), replacing(file) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in kept.items() if tensor is not None}, temporary)

    @property
    def bytes(self) -> int:
        """Memory in use."""
        tensors = (self._row, self._positions, self._values, self._logits)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def __call__(self, batch: Batch) -> Encoding:
        """The encoding of a batch of the cached data set."""
        assert self._values is not None and self._positions is not None
        rows = self._row[batch.index]
        values, positions = self._values[rows], self._positions[rows].long()
        shape = batch.observed.shape
        flat = values.new_zeros((*values.shape[:3], batch.mask[0].numel()))
        flat.scatter_(3, positions[:, None, None].expand_as(values), values)
        fields = flat.reshape(len(rows), values.shape[1], *shape[1:])
        if self._logits is None:
            return torch.where(batch.mask, batch.observed, fields[:, 0])
        logits = self._logits[rows]
        fields = fields.unflatten(1, (logits.shape[1], self._rank + 2))
        mfa = MFA(logits, fields[:, :, 0], fields[:, :, 2:], fields[:, :, 1])
        return mfa.pin(batch.observed, batch.mask)


def _fields(encoding: Tensor | MFA) -> tuple[Tensor, Tensor | None, int]:
    """All values as (B, F, C, H, W); for a mixture F = K (L + 2): mean, noise and factors of each component."""
    if isinstance(encoding, Tensor):
        return encoding.unsqueeze(1), None, -1
    parts = [encoding.mean.unsqueeze(2), encoding.noise.unsqueeze(2), encoding.factors]
    return torch.cat(parts, 2).flatten(1, 2), encoding.logits, encoding.rank


def _batches(images: IncompleteImages, size: int) -> Iterator[Batch]:
    for start in range(0, len(images), size):
        yield images.batch(torch.arange(start, min(start + size, len(images)), device=images.device))
