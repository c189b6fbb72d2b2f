"""Large images: triangles found in windows are those of the whole image, and those of scipy's griddata where unique."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.interpolate import griddata
from scipy.spatial import KDTree
from torch import Tensor

from lacuna.imputers import linear, nearest, qhull, tiles
from lacuna.imputers.linear import Linear, heights
from lacuna.imputers.nearest import Nearest, nearest_index

Mask = NDArray[np.bool_]


def observed(height: int, width: int, kind: str, seed: int = 3) -> Mask:
    """Which pixels are observed."""
    generator = np.random.default_rng(seed)
    row, column = np.mgrid[:height, :width]
    hole = (abs(row - height // 2) < height // 4) & (abs(column - width // 2) < width // 4)
    seen: Mask = {
        "half": generator.random((height, width)) > 0.5,
        "few": generator.random((height, width)) > 0.97,
        "hole": ~hole,
        "stripes": column % 16 < 6,
        "half of a half, and a hole": (generator.random((height, width)) > 0.5) & (column < width // 2) & ~hole,
        "diagonal": row == column,
        "corners": (row % (height - 1) == 0) & (column % (width - 1) == 0),
        "one": (row == 2) & (column == 3),
        "none": row < 0,
        "all": row >= 0,
    }[kind]
    return seen


KINDS = ["half", "few", "hole", "stripes", "half of a half, and a hole", "diagonal", "corners", "one", "none", "all"]


def joined(seen: Mask) -> qhull.Found:
    """All pieces, by pixel; each pixel is in one only."""
    size = heights(*seen.shape).numpy()
    nothing = qhull.Found(np.empty(0, np.int64), np.empty((0, 3), np.int64), np.empty((0, 3)))
    found = [nothing, *tiles.pieces(seen, size)]
    pixel, corner, weight = (np.concatenate(part) for part in zip(*found, strict=True))
    assert len(np.unique(pixel)) == len(pixel)
    order = np.argsort(pixel)
    return qhull.Found(pixel[order], corner[order], weight[order])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sites", [5, 60, 400])
def test_the_triangles_of_windows_are_those_of_the_whole(
    kind: str, sites: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = observed(53, 46, kind)
    monkeypatch.setattr(tiles, "SITES", sites)
    monkeypatch.setattr(tiles, "GROWTH", 3)
    whole, found = qhull.corners(seen[None], heights(53, 46).numpy()), joined(seen)
    assert np.array_equal(found.pixel, whole.pixel)
    values = np.random.default_rng(1).random(seen.size)
    np.testing.assert_allclose(
        (values[found.corner] * found.weight).sum(1), (values[whole.corner] * whole.weight).sum(1), atol=1e-9
    )


def unique(seen: Mask, found: qhull.Found) -> Mask:
    """Whether the circle around the corners (M,3) of a pixel has no fourth observed pixel, inside or on it."""
    points = np.argwhere(seen)
    row, column = (part.astype(float) for part in np.divmod(found.corner, seen.shape[1]))
    first = np.stack([row[:, 0], column[:, 0]], 1)
    sides = np.stack([row[:, 1:], column[:, 1:]], 2) - first[:, None]
    flat = np.abs(np.linalg.det(sides)) < 0.5
    sides[flat] = np.eye(2)
    centre = np.linalg.solve(2 * sides, (sides**2).sum(2)[..., None])[..., 0] + first
    radius = np.sqrt(((centre - first) ** 2).sum(1))
    count = KDTree(points).query_ball_point(centre, radius + 1e-6, return_length=True)
    result: Mask = (count == 3) & ~flat
    return result


@pytest.mark.parametrize("kind", ["half", "few", "hole", "half of a half, and a hole"])
@pytest.mark.parametrize("size", [(96, 96), (200, 200), (130, 310)])
def test_large_images_are_griddata_s(size: tuple[int, int], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the triangle is unique; elsewhere there are corners on one circle, as griddata's are."""
    monkeypatch.setattr(linear, "TILED", 2**12)
    seen = observed(*size, kind)
    image = np.random.default_rng(2).random((2, *size))
    filled = Linear().impute(torch.from_numpy(image)[None], torch.from_numpy(seen)[None, None])[0].numpy()
    everywhere = np.argwhere(np.ones_like(seen))
    expected = griddata(np.argwhere(seen), image[:, seen].T, everywhere, "linear").T.reshape(image.shape)
    found = joined(seen)
    assert np.array_equal(found.pixel, np.flatnonzero(~seen & ~np.isnan(expected[0])))
    same = found.pixel[unique(seen, found)]
    assert kind in ("hole", "half") or len(same) > 0.5 * len(found.pixel)
    np.testing.assert_allclose(filled.reshape(2, -1)[:, same], expected.reshape(2, -1)[:, same], atol=1e-7)
    outside = np.isnan(expected)
    near = Nearest().impute(torch.from_numpy(image)[None], torch.from_numpy(seen)[None, None])[0].numpy()
    assert np.array_equal(filled[outside], near[outside])


def test_the_other_images_of_a_batch_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit; two masks are equal, one is empty."""
    monkeypatch.setattr(linear, "TILED", 100)
    monkeypatch.setattr(tiles, "SITES", 50)
    kinds = ["half", "few", "half", "none", "hole"]
    mask = torch.from_numpy(np.stack([observed(40, 33, kind) for kind in kinds]))[:, None]
    truth = torch.rand(5, 3, 40, 33, generator=torch.Generator().manual_seed(1))
    together = Linear().impute(truth, mask)
    for i in range(5):
        assert torch.equal(Linear().impute(truth[i : i + 1], mask[i : i + 1]), together[i : i + 1])
    monkeypatch.setattr(linear, "TILED", 2**40)
    torch.testing.assert_close(Linear().impute(truth, mask), together, atol=1e-6, rtol=0)


def test_four_pixels_on_a_circle_of_a_very_large_image() -> None:
    """Their heights are less than Qhull's rounding, which calls them flat; either diagonal will do."""
    seen = observed(3000, 3000, "corners")
    found = qhull.corners(seen[None], np.zeros((3000, 3000)))
    assert len(found.pixel) == seen.size - 4


@pytest.mark.parametrize("kind", KINDS)
def test_bands_of_rows_find_the_same_nearest_pixels(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mask: Tensor = torch.from_numpy(np.stack([observed(41, 30, kind), observed(41, 30, "few")]))
    whole = nearest_index(mask)
    for pixels in (1, 200, 700):
        monkeypatch.setattr(nearest, "BAND", pixels)
        assert torch.equal(nearest_index(mask), whole)
