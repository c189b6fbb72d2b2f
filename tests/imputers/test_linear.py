"""Linear interpolation against scipy: triangulation, convex hull, interpolation; linear images are reproduced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import griddata
from scipy.spatial import ConvexHull, Delaunay
from torch import Tensor

from lacuna.imputers import qhull, simplex_search
from lacuna.imputers.linear import Linear, heights
from lacuna.imputers.nearest import Nearest


def masks(n: int, height: int, width: int, rate: float, seed: int = 3) -> Tensor:
    """(n,1,height,width), each with three observed pixels that are no line."""
    seen = torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(seed)) > rate
    seen[..., 0, 0] = seen[..., height // 2, width - 1] = seen[..., height - 1, width // 3] = True
    return seen


def images(n: int, height: int, width: int) -> Tensor:
    return torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def hull(seen: np.ndarray) -> np.ndarray:
    """Where (H,W) a pixel lies in the convex hull of the observed ones, by scipy."""
    every = np.argwhere(np.ones_like(seen))
    return (Delaunay(np.argwhere(seen)).find_simplex(every, tol=1e-9) >= 0).reshape(seen.shape)


def interpolated(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """From qhull's lower convex hull of the observed pixels, lifted to r² + c² and the random heights; nan outside."""
    points = np.argwhere(seen).astype(float)
    lifted = np.column_stack([points, (points**2).sum(1) + heights(*seen.shape).numpy()[seen]])
    found = ConvexHull(lifted) if len(points) > 3 else None
    filled = np.full(seen.shape, np.nan)
    for corners in [[0, 1, 2]] if found is None else found.simplices[found.equations[:, 2] < -1e-9]:
        table = np.vstack([points[corners].T, np.ones(3)])
        if abs(np.linalg.det(table)) < 1e-9:
            continue
        every = np.argwhere(np.ones_like(seen))
        weights = np.linalg.solve(table, np.vstack([every.T, np.ones(len(every))]))
        inside = (weights > -1e-9).all(0).reshape(seen.shape)
        filled[inside] = (image[seen][corners] @ weights).reshape(seen.shape)[inside]
    return filled


@pytest.mark.parametrize("size", [(8, 8), (13, 9), (28, 28)])
@pytest.mark.parametrize("rate", [0.4, 0.8, 0.97])
def test_the_triangles_are_those_of_qhull(size: tuple[int, int], rate: float) -> None:
    truth, mask = images(6, *size), masks(6, *size, rate)
    filled, nearest = Linear().impute(truth, mask), Nearest().impute(truth, mask)
    for i in range(6):
        expected = interpolated(truth[i, 0].numpy(), mask[i, 0].numpy())
        outside = np.isnan(expected)
        assert np.array_equal(outside, ~hull(mask[i, 0].numpy()))
        expected[outside] = nearest[i, 0].numpy()[outside]
        np.testing.assert_allclose(filled[i, 0].numpy(), expected, atol=1e-6)


def test_it_is_griddata_where_the_triangles_are_unique() -> None:
    """Few observed pixels: with at most one more than a triangle on a circle both must choose the same."""
    compared = 0
    for seed in range(40):
        mask, truth = masks(1, 15, 11, 0.96, seed), images(1, 15, 11)
        points = np.argwhere(mask[0, 0].numpy())
        lifted = np.column_stack([points, (points**2).sum(1), np.ones(len(points))])
        triples = Delaunay(points)
        opposite = [
            lifted[[*simplex, *set(triples.simplices[other]) - set(simplex)]]
            for simplex, others in zip(triples.simplices, triples.neighbors, strict=True)
            for other in others
            if other >= 0
        ]
        if any(abs(np.linalg.det(four)) < 0.5 for four in opposite):  # four on a circle: whole numbers
            continue
        expected = griddata(points, truth[0, 0].numpy()[tuple(points.T)], np.argwhere(np.ones((15, 11))), "linear")
        inside = ~np.isnan(expected)
        filled = Linear().impute(truth, mask)[0, 0].numpy().flatten()
        np.testing.assert_allclose(filled[inside], expected[inside], atol=1e-6)
        compared += 1
    assert compared > 10


def test_a_plane_is_continued_exactly_and_each_mask_has_its_own_triangles() -> None:
    row, column = torch.meshgrid(torch.arange(12.0), torch.arange(17.0), indexing="ij")
    plane = (0.1 + 0.03 * row + 0.02 * column)[None, None].expand(5, 3, -1, -1)
    mask = torch.cat([masks(5, 12, 17, 0.8, seed) for seed in range(3)], 1)
    filled = Linear().impute(plane, mask)
    for image, seen in zip(filled.flatten(0, 1), mask.flatten(0, 1), strict=True):
        inside = torch.from_numpy(hull(seen.numpy()))
        torch.testing.assert_close(image[inside], plane[0, 0][inside], atol=1e-5, rtol=0)


def test_fewer_than_a_triangle() -> None:
    """One pixel is copied; between two, and on a line, values are interpolated; without any the image is grey."""
    truth = torch.tensor([0.0, 0.4, 0.9, 0.2, 1.0]).view(1, 1, 1, 5)
    for shown, expected in (
        ([2], [0.9, 0.9, 0.9, 0.9, 0.9]),
        ([0, 4], [0.0, 0.25, 0.5, 0.75, 1.0]),
        ([1, 2, 4], [0.4, 0.4, 0.9, 0.95, 1.0]),
        ([], [0.5] * 5),
    ):
        mask = torch.zeros(1, 1, 1, 5, dtype=torch.bool)
        mask[..., shown] = True
        for image, seen in ((truth, mask), (truth.mT, mask.mT)):
            torch.testing.assert_close(
                Linear().impute(image, seen).flatten(), torch.tensor(expected), atol=1e-6, rtol=0
            )
    assert Linear().impute(torch.rand(2, 1, 1, 1), torch.zeros(2, 1, 1, 1, dtype=torch.bool)).eq(0.5).all()


@pytest.mark.parametrize("kind", ["scattered", "square"])
def test_no_observed_pixel_is_inside_the_circle_of_a_triangle(kind: str) -> None:
    """In whole numbers, for a larger image: the heights choose between Delaunay triangulations only."""
    seen = masks(1, 70, 90, 0.9)[0].numpy()
    if kind == "square":
        seen = np.ones_like(seen)
        seen[:, 12:60, 20:75] = False
    found = qhull.corners(seen, heights(70, 90).numpy())
    assert np.array_equal(found.pixel, np.flatnonzero(hull(seen[0]) & ~seen[0]))
    row, column = np.divmod(np.unique(found.corner, axis=0), 90)
    lifted = np.stack([row, column, row**2 + column**2], 2)
    normal = np.cross(lifted[:, 1] - lifted[:, 0], lifted[:, 2] - lifted[:, 0])
    assert normal[:, 2].all()
    normal *= np.sign(normal[:, 2:])
    r, c = np.nonzero(seen[0])
    above = normal @ np.stack([r, c, r**2 + c**2]) - (normal * lifted[:, 0]).sum(1, keepdims=True)
    assert above.min() == 0


def places(corner: np.ndarray, weight: np.ndarray, width: int) -> np.ndarray:
    """The weighted means (M,2) of the corners' rows and columns."""
    return (np.stack(np.divmod(corner, width), 2) * weight[..., None]).sum(1)


@pytest.mark.parametrize("size", [(10, 10), (1, 12), (12, 1), (17, 5)])
def test_the_search_on_a_gpu_finds_the_same_triangles(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """In one part or many, with windows of any size; images with all, one or no pixel observed are among them."""
    generator = torch.Generator().manual_seed(8)
    mask = torch.cat([torch.rand(3, *size, generator=generator) > rate for rate in (0.2, 0.6, 0.9, 1.0, 0.0)])
    mask[-4, 0, 0] = True
    found = qhull.corners(mask.numpy(), heights(*size).numpy())
    np.testing.assert_allclose(
        places(found.corner, found.weight, size[1]), np.stack(np.divmod(found.pixel, size[1]), 1), atol=1e-9
    )
    values = torch.rand(mask.numel(), generator=generator, dtype=torch.float64).numpy()
    for pairs, reach in ((2**21, 3), (1, 3), (1, 1)):
        monkeypatch.setattr(simplex_search, "PAIRS", {"cpu": pairs})
        monkeypatch.setattr(simplex_search, "REACH", reach)
        pixel, corner, weight = (part.numpy() for part in simplex_search.corners(mask, heights(*size)))
        assert np.array_equal(pixel, found.pixel)
        expected = (values[found.corner] * found.weight).sum(1)
        np.testing.assert_allclose((values[corner] * weight).sum(1), expected, atol=1e-9)


def test_blocks_and_the_other_images_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit; three of the masks are equal."""
    truth, mask = images(7, 10, 10), torch.cat([masks(2, 10, 10, 0.9), masks(4, 10, 10, 0.3), masks(1, 10, 10, 0.9)])
    mask[4] = mask[0]
    expected = Linear().impute(truth, mask)
    alone = [Linear().impute(truth[i : i + 1], mask[i : i + 1]) for i in range(7)]
    assert torch.equal(torch.cat(alone), expected)
    monkeypatch.setattr(qhull, "BLOCK", 5)
    assert torch.equal(Linear().impute(truth, mask), expected)


def test_merging_facets_or_not_qhull_finds_the_same_triangles(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, mask = images(4, 28, 28), masks(4, 28, 28, 0.7)
    expected = Linear().impute(truth, mask)
    monkeypatch.setattr(qhull, "UNMERGED", 0)
    torch.testing.assert_close(Linear().impute(truth, mask), expected, atol=1e-9, rtol=0)
