"""Reference statistics of FID: computed once, stored in a cache, computed again for anything else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lacuna.data.incomplete import IncompleteImages
from lacuna.data.masks import Bernoulli, NoMask
from lacuna.data.prepared import Arrays, Provenance
from lacuna.errors import LacunaError
from lacuna.metrics.features import Features
from lacuna.metrics.fid import reference_statistics


def flat(images: Tensor) -> Tensor:
    return images.flatten(1)


class Counting(torch.nn.Module):
    """Pixels times a weight; counts the images it is applied to, over all its copies."""

    images = 0

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def features(self, images: Tensor) -> Tensor:
        type(self).images += len(images)
        return images.flatten(1) * self.weight


BYTES = np.random.default_rng(0).integers(0, 256, (30, 1, 2, 3), dtype=np.uint8)
PROVENANCE = Provenance("pieces", (1, 2, 3), None, {"test": 30}, {"test_images.npy": "a checksum"}, {}, True, True, "")


def images(index: np.ndarray | None = None, **options: object) -> IncompleteImages:
    scheme = options.pop("scheme", NoMask())
    arrays = Arrays(BYTES, observed=options.pop("observed", None))  # type: ignore[arg-type]
    options = {"keep_truth": True, "split": "test", **options}
    return IncompleteImages(arrays, scheme, seed=0, index=index, **options)  # type: ignore[arg-type]


def counted(features: Features, cache: Path | None, given: IncompleteImages | None = None, **changes: object) -> int:
    """Number of images that the feature net was applied to; the statistics are checked against numpy."""
    given = given or images()
    Counting.images = 0
    found = reference_statistics(features, given, replace(PROVENANCE, **changes), cache=cache, batch_size=7)  # type: ignore[arg-type]
    assert features.digest or Counting.images == 0
    x = BYTES[given.index.numpy()].reshape(len(given), -1) / 255 * (2.0 if "two" in features.name else 1.0)
    assert np.allclose(found.mean, x.mean(0)) and np.allclose(found.covariance, np.cov(x, rowvar=False))
    assert (found.n, found.features, found.images) == (len(given), features.protocol, f"pieces/{given.split}")
    return Counting.images


def test_they_are_computed_once(tmp_path: Path) -> None:
    features = Features(Counting())
    first = reference_statistics(features, images(), PROVENANCE, cache=tmp_path)
    assert counted(features, tmp_path) == 0
    again = reference_statistics(features, images(), PROVENANCE, cache=tmp_path)
    assert torch.equal(first.mean, again.mean) and torch.equal(first.covariance, again.covariance)
    assert counted(Features(Counting()), tmp_path) == 0, "an equal net in another process"
    assert counted(features, tmp_path, images(scheme=Bernoulli(0.5))) == 0, "masks have no effect"
    assert len(list(tmp_path.iterdir())) == 1
    assert counted(features, None) == 30, "without a cache"


def test_they_are_computed_again_for_anything_else(tmp_path: Path) -> None:
    features = Features(Counting())
    assert counted(features, tmp_path) == 30
    assert counted(Features(Counting(2.0), name="two"), tmp_path) == 30, "another net"
    assert counted(Features(Counting(2.0), name="two", layer="other"), tmp_path) == 30, "another layer"
    assert counted(features, tmp_path, images(np.arange(5, 25))) == 20, "other images"
    assert counted(features, tmp_path, images(np.arange(4, 24))) == 20, "as many others"
    assert counted(features, tmp_path, images(split="train")) == 30, "another split"
    assert counted(features, tmp_path, checksums={"test_images.npy": "another"}) == 30, "other data of the same name"
    assert counted(features, tmp_path) == 0


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    features = Features(Counting())
    assert counted(features, tmp_path) == 30
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for content in (b"", whole[:50], b"nonsense" + whole):
        path.write_bytes(content)
        assert counted(features, tmp_path) == 30
        assert counted(features, tmp_path) == 0 and list(tmp_path.iterdir()) == [path]


def test_statistics_of_a_function_are_not_stored(tmp_path: Path) -> None:
    """A function may change under the same name."""
    counted(Features(flat, name="pixels"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_sets_without_complete_truth_are_refused() -> None:
    observed = np.ones((30, 1, 2, 3), np.bool_)
    observed[20, 0, 0, 0] = False
    with pytest.raises(LacunaError, match="pixels of this data set are missing"):
        reference_statistics(Features(flat, name="pixels"), images(observed=observed), PROVENANCE)
    with pytest.raises(LacunaError, match="not training batches"):
        reference_statistics(Features(flat, name="pixels"), images(keep_truth=False, split="train"), PROVENANCE)
