"""The loader: every image once, the same order everywhere, resumable at every batch."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from lacuna.data.incomplete import IncompleteImages
from lacuna.data.loader import ResidentLoader
from lacuna.data.masks import NoMask
from lacuna.data.prepared import Arrays
from lacuna.errors import LacunaError

N = 23


@pytest.fixture
def images():
    pixels = np.arange(N, dtype=np.uint8)[:, None, None, None]
    return IncompleteImages(Arrays(np.ascontiguousarray(pixels)), NoMask(), seed=0, split="train")


def loader(images, batch_size=5, **options):
    return ResidentLoader(images, batch_size, **({"shuffle": True, "seed": 0} | options))


def epoch(a_loader):
    return [batch.index.tolist() for batch in a_loader]


def flat(batches):
    return list(itertools.chain(*batches))


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_image_once(images, batch_size, shuffle):
    made = loader(images, batch_size, shuffle=shuffle)
    batches = epoch(made)
    assert len(batches) == len(made) and sorted(flat(batches)) == list(range(N))
    assert (flat(batches) == list(range(N))) == (not shuffle)
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_order_is_a_function_of_seed_and_epoch(images):
    first = loader(images)
    epochs = [epoch(first) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    again = loader(images, batch_size=4)
    assert [flat(epoch(again)) for _ in range(3)] == [flat(e) for e in epochs]
    again.set_epoch(1)
    assert flat(epoch(again)) == flat(epochs[1])
    assert flat(epoch(again)) == flat(epochs[2])
    assert flat(epoch(loader(images, seed=1))) != flat(epochs[0])


def test_drop_last(images):
    made = loader(images, drop_last=True)
    batches = epoch(made)
    assert len(made) == len(batches) == 4 and {len(batch) for batch in batches} == {5}
    with pytest.raises(LacunaError, match="larger than the 23 images"):
        loader(images, 24, drop_last=True)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 30])
@pytest.mark.parametrize("world_size", [2, 3, 4, 30])
def test_ranks_share_one_order(images, world_size, batch_size):
    ranks = [epoch(loader(images, batch_size, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    single = epoch(loader(images, batch_size * world_size))
    assert len(single) == len(ranks[0])
    for k, together in enumerate(single):  # batch k of all ranks is batch k of one process
        shared = flat(rank[k] for rank in ranks)
        extra = max(world_size - len(together), 0)  # one image for each rank that would have none
        assert set(shared) >= set(together) and len(shared) == len(together) + extra
        assert extra == 0 or k == len(single) - 1


@pytest.mark.parametrize("stop", range(0, 6))
def test_resumes_at_any_batch(images, stop):
    whole = loader(images)
    expected = [epoch(whole) for _ in range(3)]
    broken = loader(images)
    epoch(broken)
    given = [batch.index.tolist() for batch in itertools.islice(broken, stop)]
    state = json.loads(json.dumps(broken.state_dict()))
    fresh = loader(images)
    fresh.load_state_dict(state)
    if stop == 0:  # nothing of epoch 1 was asked for: epoch 0 is done, the next pass is epoch 1
        assert state["epoch"] == 0 and state["position"] == 5
    elif stop < 5:
        assert given + epoch(fresh) == expected[1]
        assert epoch(fresh) == expected[2]
        return
    assert epoch(fresh) == expected[1 if stop == 0 else 2]


def test_set_epoch_after_resuming_keeps_the_position(images):
    expected = epoch(loader(images))
    broken = loader(images)
    next(itertools.islice(broken, 1, 2))
    fresh = loader(images)
    fresh.load_state_dict(broken.state_dict())
    fresh.set_epoch(0)
    assert epoch(fresh) == expected[2:]
    fresh.load_state_dict(broken.state_dict())
    fresh.set_epoch(1)
    assert len(epoch(fresh)) == 5


def test_an_unused_iterator_costs_no_epoch(images):
    made = loader(images)
    iter(made)
    iter(made)
    assert epoch(made) == epoch(loader(images))


def test_a_pass_given_up_is_not_continued(images):
    made = loader(images)
    next(iter(made))
    assert len(epoch(made)) == 5 and made.epoch == 1


def test_refusals(images):
    with pytest.raises(LacunaError, match="batch_size=0"):
        loader(images, 0)
    with pytest.raises(ValueError, match="rank 2"):
        loader(images, rank=2, world_size=2)
    with pytest.raises(LacunaError, match="resume with the same data"):
        loader(images).load_state_dict(loader(images, 4).state_dict())
