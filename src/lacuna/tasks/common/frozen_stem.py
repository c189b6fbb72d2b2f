"""Base class of tasks that train a network with a stem: fits the stem's imputer and caches its encodings."""

from __future__ import annotations

from typing import Any

import torch

from lacuna.data.hashing import permutation
from lacuna.data.incomplete import Batch, IncompleteImages
from lacuna.data.module import IncompleteData
from lacuna.imputers.base import Imputer
from lacuna.layers.stem import Encoding, ImputeStem
from lacuna.tasks.base import Task
from lacuna.tasks.common.encoding_cache import EncodingCache
from lacuna.tasks.common.models import IncompleteAutoencoder, IncompleteClassifier


class StemTask(Task):
    """Trains the ``stem`` and the ``net`` of the recipe."""

    component = "net"
    model: IncompleteClassifier | IncompleteAutoencoder

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # id of a data set that is used in every epoch -> its encodings
        self._caches: dict[int, EncodingCache] = {}

    def prepare(self) -> None:
        """Fit the imputer if it needs images; compute the encodings of training and validation images."""
        stem = self.model.stem
        if isinstance(stem.frozen, Imputer) and not stem.frozen.fitted:
            fit_imputer(stem.frozen, self.data, self.config["seed"])
        if stem.cacheable:
            left = self.cache_bytes
            for images in [self.data.train, *([self.data.validation] if self.data.has_validation else [])]:
                cache = EncodingCache(images, stem.encode, left, self.eval_batch_size, self.cache_file(images))
                if cache.filled:
                    self._caches[id(images)] = cache
                    left -= cache.bytes

    def encoding(self, images: IncompleteImages, batch: Batch) -> Encoding:
        """The encoding of a batch, if it can be had without computing it; else None."""
        if images.whole and isinstance(self.model.stem, ImputeStem):
            return batch.observed  # nothing to impute
        cache = self._caches.get(id(images))
        return None if cache is None else cache(batch)


def fit_imputer(imputer: Imputer, data: IncompleteData, seed: int) -> None:
    """Fit an imputer to as many training images as it uses, drawn by the seed."""
    images = data.complete("train") if imputer.complete_donors else data.train
    n = len(images) if imputer.donors is None else min(imputer.donors, len(images))
    if not n:
        return
    rows = torch.from_numpy(permutation(len(images), "donors", seed)[:n].copy())
    batch = images.batch(rows)
    imputer.fit(batch.observed, batch.mask)
