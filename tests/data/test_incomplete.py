"""Incomplete data sets: masks stay with their images, missing pixels are erased, the truth is for evaluation only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lacuna.data.incomplete import Batch, EvalBatch, IncompleteImages
from lacuna.data.masks import Bernoulli, Noise, NoMask, Square
from lacuna.data.prepared import Arrays
from lacuna.errors import LacunaError

N, SHAPE = 40, (3, 8, 6)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return Arrays(rng.integers(1, 256, (N, *SHAPE), dtype=np.uint8), rng.integers(0, 5, N))


def own_masks(n=N, channels=1):
    observed = np.random.default_rng(1).random((n, channels, *SHAPE[1:])) < 0.7
    observed[:, 0, 0, 0] = True
    return observed


def make(arrays, scheme=None, **options):
    defaults: dict[str, Any] = {"seed": 3, "split": "train", "keep_truth": True}
    return IncompleteImages(arrays, scheme or Square(), **(defaults | options))


@pytest.mark.parametrize("resident_bytes", [1 << 30, 0], ids=["resident", "host"])
@pytest.mark.parametrize("own", [0, 1, 3], ids=["complete", "own mask", "own mask per channel"])
@pytest.mark.parametrize("scheme", [NoMask(), Square(), Bernoulli(0.6, per_channel=True)], ids=str)
def test_batches_agree_with_the_arrays(arrays, scheme, own, resident_bytes):
    observed = own_masks(channels=own) if own else None
    arrays = Arrays(arrays.images, arrays.labels, observed)
    present = np.ones((N, 1, *SHAPE[1:]), bool) if observed is None else observed
    expected = scheme(torch.arange(N), SHAPE, seed=3, split="train").numpy() & present
    at = torch.tensor([5, 5, 0, N - 1])
    batch = make(arrays, scheme, resident_bytes=resident_bytes).batch(at)
    assert isinstance(batch, EvalBatch) and len(batch) == 4
    assert batch.observed.dtype == torch.float32 and batch.index.dtype == torch.int64
    np.testing.assert_array_equal(batch.mask, expected[at])
    np.testing.assert_array_equal(batch.truth_mask.expand(4, present.shape[1], -1, -1), present[at])
    truth = (arrays.images / np.float32(255)).astype(np.float32) * present
    np.testing.assert_array_equal(batch.truth, truth[at])
    np.testing.assert_array_equal(batch.observed, truth[at] * expected[at])
    assert batch.label is not None and batch.label.dtype == torch.int64 and arrays.labels is not None
    np.testing.assert_array_equal(batch.label, arrays.labels[at])
    np.testing.assert_array_equal(batch.index, at)
    blind = make(arrays, scheme, resident_bytes=resident_bytes, keep_truth=False).batch(at)
    assert type(blind) is Batch and not hasattr(blind, "truth")
    assert torch.equal(blind.observed, batch.observed) and torch.equal(blind.mask, batch.mask)


def test_the_truth_is_erased_from_a_training_set(arrays):
    images = make(arrays, keep_truth=False)
    assert images.resident
    missing = ~images.batch(range(N)).mask.expand(N, *SHAPE)
    for value in vars(images).values():
        if isinstance(value, torch.Tensor) and value.shape == (N, *SHAPE):
            assert not value[missing].any()
    assert not any(
        isinstance(value, (np.ndarray, Arrays)) and getattr(value, "ndim", 4) == 4 for value in vars(images).values()
    )
    changed = arrays.images.copy()
    changed[missing.numpy()] = 77
    again = make(Arrays(changed, arrays.labels), keep_truth=False)
    assert torch.equal(again._images, images._images)


def test_a_subset_changes_no_mask(arrays):
    whole = make(arrays)
    part = make(arrays, index=np.array([30, 2, 7]))
    assert len(part) == 3 and part.index.tolist() == [30, 2, 7]
    a, b = part.batch([0, 1, 2]), whole.batch([30, 2, 7])
    for name in ("observed", "mask", "label", "index", "truth"):
        assert torch.equal(getattr(a, name), getattr(b, name))


def test_chunks_change_nothing(arrays, monkeypatch):
    whole = make(arrays, Noise()).batch(range(N))
    monkeypatch.setattr("lacuna.data.incomplete._CHUNK", 7)
    assert torch.equal(make(arrays, Noise()).batch(range(N)).observed, whole.observed)


def test_without_labels(arrays):
    images = make(Arrays(arrays.images))
    assert images.labels is None and images.batch([0]).label is None
    assert images.batch([0]).to("cpu").label is None


def test_a_complete_set_stores_no_masks(arrays):
    images = make(arrays, NoMask())
    for moved in (images, images.to("meta")):
        for masks in (moved._masks, moved._truth_masks):
            assert masks.numel() <= SHAPE[1] * SHAPE[2]


@pytest.mark.parametrize("n", [1, N])
def test_masks_of_a_complete_set(arrays, n):
    batch = make(arrays, NoMask(), index=np.arange(n)).batch([n - 1, 0, 0])
    assert isinstance(batch, EvalBatch)
    for mask in (batch.mask, batch.truth_mask):
        assert mask.shape == (3, 1, *SHAPE[1:]) and mask.dtype == torch.bool and mask.all() and mask.is_contiguous()
    assert torch.equal(batch.observed, batch.truth) and make(arrays, NoMask()).batch([]).mask.shape[0] == 0
    one = make(arrays, Square(), index=np.array([7])).batch([0, 0])
    assert torch.equal(one.mask, make(arrays).batch([7, 7]).mask)


def test_an_image_without_observed_pixels_is_named(arrays):
    observed = own_masks()
    observed[17] = False
    with pytest.raises(LacunaError, match="Image 17 of the split 'train' has no observed pixel"):
        make(Arrays(arrays.images, arrays.labels, observed))


def test_scheme_and_own_mask_together_leave_an_observed_pixel(arrays):
    observed = np.zeros((N, 1, *SHAPE[1:]), bool)
    observed[:, 0, 3, 2] = True
    mask = make(Arrays(arrays.images, arrays.labels, observed), Bernoulli(0.9)).batch(range(N)).mask
    assert torch.equal(mask, torch.from_numpy(observed))


def test_moving_to_another_device(arrays):
    images = make(arrays).to("meta")
    assert images.device.type == "meta" and images.labels is not None and images.labels.device.type == "meta"
    batch = make(arrays).batch([1, 2]).to("meta")
    assert isinstance(batch, EvalBatch) and batch.truth.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.parametrize("resident_bytes", [1 << 30, 0], ids=["resident", "host"])
def test_the_same_on_a_gpu(arrays, resident_bytes):
    here = make(arrays).batch(range(N))
    there = make(arrays, device="cuda", resident_bytes=resident_bytes).batch(range(N))
    assert there.observed.is_cuda
    for name in ("observed", "mask", "label", "index", "truth", "truth_mask"):
        assert torch.equal(getattr(there, name).cpu(), getattr(here, name))
