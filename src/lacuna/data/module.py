"""The data of one experiment: a source, its splits, a mask scheme, and their loaders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from lacuna import registry
from lacuna.data.chunks import ChunkedLoader
from lacuna.data.hashing import permutation
from lacuna.data.incomplete import RESIDENT_BYTES, IncompleteImages
from lacuna.data.loader import ResidentLoader
from lacuna.data.masks import MaskScheme, NoMask
from lacuna.data.prepared import SPLITS, PreparedData, Provenance
from lacuna.data.sources.base import Source, data_root
from lacuna.errors import LacunaError

_LIMITS = ("validation", "train_images", "validation_images", "test_images")
_FOR_RECIPES = ("default_validation",)
"""Keys of a data config that only recipes use."""


class IncompleteData(pl.LightningDataModule):
    """Training, validation and test images with one mask scheme; works with and without a Trainer.

    If the source has no validation split, ``data.validation`` images of the training split are set aside by a fixed
    permutation (null: none). ``data.train_images``, ``data.validation_images`` and ``data.test_images`` keep the first
    n images. None of these changes a mask: it depends only on an image's position in the stored split.

    Args:
        data: a data config: ``type``, the keys above, the source's arguments.
        mask: a mask config: ``type``, ``seed``, the scheme's arguments.
        root: the data folder.
        download: whether the network may be used.
        batch_size, eval_batch_size: images per batch (on each rank) for training and evaluation (default: the same).
        seed: of the order of training batches.
        mask_seed: overrides the mask config's ``seed``.
        drop_last: whether training drops a last batch that is not full.
        most_batches: training batches of an epoch, at most; None: all.
        device: where the images are kept; under a Trainer, its device.
        resident_bytes: larger sets stay memory-mapped on the host.

    Raises:
        LacunaError: an unknown source or scheme, or a wrong argument of either.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        mask: Mapping[str, Any],
        *,
        root: Path | str,
        download: bool = True,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        seed: int = 0,
        mask_seed: int | None = None,
        drop_last: bool = False,
        most_batches: int | None = None,
        device: torch.device | str = "cpu",
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        super().__init__()
        self._limits = {name: _count(name, data.get(name)) for name in _LIMITS}
        self.source: Source = registry.build(
            "data", {k: v for k, v in data.items() if k not in (*_LIMITS, *_FOR_RECIPES)}
        )
        self.scheme: MaskScheme = registry.build("mask", {k: v for k, v in mask.items() if k != "seed"})
        self.mask_seed = int(mask.get("seed", 0) if mask_seed is None else mask_seed)
        self.root, self.download, self.seed, self.drop_last = data_root(root), download, seed, drop_last
        self.most_batches = most_batches
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self._device, self._resident_bytes = torch.device(device), resident_bytes
        self._prepared: PreparedData | None = None
        self._sets: dict[tuple[str, bool], IncompleteImages] = {}

    def prepare_data(self) -> None:
        """Download and prepare the data if necessary (Lightning calls this in one process per machine)."""
        self._prepared = self.source.prepare(self.root, self.download)

    def setup(self, stage: str | None = None) -> None:
        """Open the prepared data, preparing it first if necessary; may be called repeatedly."""
        if self._prepared is None:
            self.prepare_data()

    @property
    def prepared(self) -> PreparedData:
        """The prepared data set."""
        self.setup()
        assert self._prepared is not None
        return self._prepared

    @property
    def provenance(self) -> Provenance:
        """Where the images come from."""
        return self.prepared.provenance

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return self.provenance.shape

    @property
    def classes(self) -> int | None:
        """Number of classes, None if the set has none."""
        return self.provenance.classes

    @property
    def attributes(self) -> int | None:
        """Number of binary attributes per image, None if the set has none."""
        return self.provenance.attributes

    @property
    def device(self) -> torch.device:
        """The device on which batches are."""
        return self._device if self.trainer is None else self.trainer.strategy.root_device

    @property
    def has_validation(self) -> bool:
        """Whether there are validation images, stored or set aside from the training images."""
        return "validation" in self.provenance.counts or bool(self._limits["validation"])

    @property
    def train(self) -> IncompleteImages:
        """Training images; missing pixels are erased."""
        return self._set("train", masked=True)

    @property
    def validation(self) -> IncompleteImages:
        """Validation images, with truth."""
        return self._set("validation", masked=True)

    @property
    def test(self) -> IncompleteImages:
        """Test images, with truth."""
        return self._set("test", masked=True)

    def complete(self, split: str) -> IncompleteImages:
        """The images of a split without the mask scheme (pixels missing in the data remain missing), with truth."""
        return self._set(split, masked=False)

    def positions(self, split: str) -> tuple[str, np.ndarray]:
        """The stored split, and the positions in it (int64, ascending), that make up ``split``.

        Raises:
            LacunaError: no such split, no images in it, or too many images set aside for validation.
        """
        if split not in SPLITS:
            raise LacunaError(f"There is no split '{split}': choose one of {', '.join(SPLITS)}.")
        stored = self.provenance.counts
        home, index = split, np.arange(stored.get(split, 0))
        aside = 0 if "validation" in stored else self._set_aside(stored["train"])
        if split != "test" and aside:
            home, n = "train", stored["train"]
            if aside >= n:
                raise LacunaError(f"data.validation={aside} must be smaller than the {n} training images.")
            order = permutation(n, "validation", self._identity)
            index = np.sort(order[:aside] if split == "validation" else order[aside:])
        if not len(index):
            hint = ": set data.validation to the number of training images to set aside" if split != "test" else ""
            raise LacunaError(f"The data set {self.provenance.name} has no {split} images{hint}.")
        limit = self._limits[f"{split}_images"]
        return home, index if limit is None else index[:limit]

    @property
    def _identity(self) -> str:
        """A name that does not depend on the location: for a user's own data the fingerprint, not the path."""
        return self.provenance.fingerprint if self.source.users_own else self.provenance.name

    def _set_aside(self, train: int) -> int:
        """Number of training images used for validation; of a sample of a named set, the same fraction."""
        asked, official = self._limits["validation"] or 0, self.source.official_counts.get("train", train)
        return asked if train >= official else round(asked * train / official)

    def _set(self, split: str, *, masked: bool) -> IncompleteImages:
        if (split, masked) not in self._sets:
            home, index = self.positions(split)
            self._sets[split, masked] = IncompleteImages(
                self.prepared.split(home),
                self.scheme if masked else NoMask(),
                seed=self.mask_seed,
                split=home,
                index=index,
                keep_truth=split != "train" or not masked,
                classes=self.classes,
                resident_bytes=self._resident_bytes,
            )
        return self._sets[split, masked].to(self.device)

    def loader(self, images: IncompleteImages, *, shuffle: bool = False) -> ResidentLoader:
        """A loader over any of this module's sets: in training order with ``shuffle``, else for evaluation."""
        trainer = self.trainer
        return ResidentLoader(
            images,
            self.batch_size if shuffle else self.eval_batch_size,
            shuffle=shuffle,
            seed=self.seed,
            drop_last=self.drop_last and shuffle,
            most_batches=self.most_batches if shuffle else None,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches are on the device already."""
        return batch

    def train_dataloader(self) -> ResidentLoader | ChunkedLoader:
        """Training batches in a seeded order; chunks of them for a module under a Trainer that ``takes_chunks``."""
        loader = self.loader(self.train, shuffle=True)
        chunked = getattr(getattr(self.trainer, "lightning_module", None), "takes_chunks", False)
        return ChunkedLoader(loader) if chunked else loader

    def val_dataloader(self) -> ResidentLoader | list[Any]:
        """Validation batches; an empty list if there are no validation images."""
        if self.has_validation:
            return self.loader(self.validation)
        return []

    def test_dataloader(self) -> ResidentLoader:
        """Test batches."""
        return self.loader(self.test)


def _count(name: str, value: Any) -> int | None:
    """Check a number of images from the config: None or an integer of at least 1 (``validation``: 0)."""
    least = 0 if name == "validation" else 1
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise LacunaError(f"data.{name}={value} must be null or a whole number of at least {least}.")
    return value
