"""The nearest observed pixel against searches of all pixels, one by one; the published rings' corners and draws."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers.nearest import (
    BITS,
    Nearest,
    RingNearest,
    _in_first_ring,
    _in_ring,
    nearest_index,
    ring_offsets,
)


def masks(n: int, height: int, width: int, rate: float) -> Tensor:
    """(n,height,width), each with at least one observed pixel."""
    seen = torch.rand(n, height, width, generator=torch.Generator().manual_seed(7)) > rate
    seen[:, height // 2, width // 3] = True
    return seen


def searched(seen: Tensor, row: int, column: int) -> int:
    """The first nearest observed pixel in reading order."""
    there = seen.nonzero()
    squared = (there[:, 0] - row) ** 2 + (there[:, 1] - column) ** 2
    nearest = there[squared == squared.min()][0]
    return int(nearest[0] * seen.shape[1] + nearest[1])


@pytest.mark.parametrize("size", [(9, 9), (5, 12), (12, 5), (1, 7), (7, 1), (1, 1)])
@pytest.mark.parametrize("rate", [0.3, 0.9, 1.0])
def test_the_nearest_of_all_pixels(size: tuple[int, int], rate: float) -> None:
    seen = masks(4, *size, rate)
    expected = [[[searched(one, r, c) for c in range(size[1])] for r in range(size[0])] for one in seen]
    assert nearest_index(seen).tolist() == expected


def test_large_images_do_not_overflow() -> None:
    """Distances are scipy's where 32 bits are too few for distance and position."""
    seen = masks(1, 300, 200, 0.999)
    index = nearest_index(seen)[0]
    rows, columns = torch.meshgrid(torch.arange(300), torch.arange(200), indexing="ij")
    found = ((index // 200 - rows) ** 2 + (index % 200 - columns) ** 2).double().sqrt()
    torch.testing.assert_close(found, torch.from_numpy(distance_transform_edt(~seen[0].numpy())))


def candidates(seen: Tensor, row: int, column: int) -> list[int]:
    """MCFlow's candidates for one pixel, by walking along the four half-open sides of growing squares."""
    height, width = seen.shape
    for ring in range(1, max(height, width)):
        found = []
        for side in range(-ring, ring):
            for r, c in ((-ring, side), (side, -ring), (ring, side), (side, ring)):
                there = row + r, column + c
                if 0 <= there[0] < height and 0 <= there[1] < width and seen[there]:
                    found.append(there[0] * width + there[1])
        if found:
            return sorted(found)
    return []


@pytest.mark.parametrize("size", [(9, 9), (5, 12)])
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_one_of_the_published_candidates(size: tuple[int, int], rate: float) -> None:
    seen = masks(6, *size, rate)
    source = RingNearest().source(seen)
    for one, index in zip(seen, source, strict=True):
        for row, column in (~one).nonzero().tolist():
            allowed = candidates(one, row, column) or [searched(one, row, column)]
            assert int(index[row, column]) in allowed
        own = torch.arange(one.numel()).view(size)
        assert torch.equal(index[one], own[one])


def test_a_ring_has_one_corner_twice_and_one_never() -> None:
    for ring in (1, 2, 5):
        pairs = list(zip(*(offsets.tolist() for offsets in ring_offsets(ring)), strict=True))
        assert len(pairs) == 8 * ring and pairs.count((-ring, -ring)) == 2 and (ring, ring) not in pairs
        square = {(r, c) for r in range(-ring, ring + 1) for c in range(-ring, ring + 1) if ring in (abs(r), abs(c))}
        assert set(pairs) == square - {(ring, ring)}


def test_the_draws_are_uniform_among_the_candidates() -> None:
    """One missing pixel in 3x3: 8 equally likely entries, of which the upper left corner is two. Other pixels of the
    image, in a margin too far away to matter, make the masks differ."""
    n = 8000
    seen = torch.rand(n, 3, 20, generator=torch.Generator().manual_seed(1)) > 0.5
    seen[:, :, :3] = True
    seen[:, 1, 1] = False
    source = RingNearest().source(seen)[:, 1, 1]
    counts = torch.bincount(source, minlength=60).view(3, 20)[:, :3].flatten().double()
    expected = torch.tensor([2, 1, 1, 1, 0, 1, 1, 1, 0]) * n / 8
    used = expected > 0
    chi_squared = ((counts - expected).square()[used] / expected[used]).sum()
    assert counts[~used].sum() == 0 and chi_squared < 22.5  # 6 degrees of freedom: exceeded once in a thousand
    other = RingNearest(seed=1).source(seen)[:, 1, 1]
    assert 0.7 < (other != source).double().mean() < 0.95  # 1 - (4 + 6) / 64 = 0.84 by chance


def test_the_fast_first_ring_equals_the_general_one() -> None:
    seen = torch.rand(20, 7, 9, generator=torch.Generator().manual_seed(5)) > 0.7
    positions = (~seen).flatten().nonzero()[:, 0]
    bits = torch.randint(2**BITS, positions.shape, generator=torch.Generator().manual_seed(6))
    entry, count = _in_ring(seen, positions, bits, 1)
    fast, same = _in_first_ring(seen, positions, bits)
    assert count.equal(same.short()) and set(count.tolist()) >= set(range(5))
    assert torch.equal(entry[count > 0], fast[count > 0])


def test_channels_are_copied_together() -> None:
    """With one mask for all channels each pixel is copied from one pixel; equal masks per channel give the same."""
    images, mask = torch.rand(5, 3, 6, 6), masks(5, 6, 6, 0.7)[:, None]
    for imputer in (Nearest(), RingNearest()):
        filled = imputer.impute(images, mask)
        assert torch.equal(filled, imputer.impute(images, mask.expand(-1, 3, -1, -1)))
        for one, truth, seen in zip(filled, images, mask, strict=True):
            colours = {tuple(pixel) for pixel in truth[:, seen[0]].T.tolist()}
            assert {tuple(pixel) for pixel in one.flatten(1).T.tolist()} == colours


def test_images_without_observed_pixels_become_grey() -> None:
    images, mask = torch.rand(2, 2, 1, 1), torch.tensor([[True, False], [False, False]])[..., None, None]
    expected = torch.where(mask, images, 0.5)
    for imputer in (Nearest(), RingNearest()):
        assert torch.equal(imputer.impute(images, mask), expected)


def test_a_pixel_outside_all_rings_takes_the_nearest() -> None:
    """Only the last pixel is observed: for the others on the diagonal it is a corner that is never used."""
    seen = torch.zeros(1, 4, 4, dtype=torch.bool)
    seen[0, 3, 3] = True
    assert RingNearest().source(seen).eq(15).all()


def test_mistakes_are_named() -> None:
    with pytest.raises(LacunaError, match=r"imputer\.seed=0\.5"):
        RingNearest(seed=0.5)  # type: ignore[arg-type]
