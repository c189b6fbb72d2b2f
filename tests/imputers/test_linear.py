"""Linear interpolation against scipy: triangulation, convex hull, interpolation; linear images are reproduced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import griddata
from scipy.spatial import ConvexHull, Delaunay
from torch import Tensor

from lacuna.imputers import linear
from lacuna.imputers.linear import HEIGHT, Linear
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
    little = torch.rand(seen.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    points = np.argwhere(seen).astype(float)
    heights = (points**2).sum(1) + HEIGHT * little.reshape(seen.shape)[seen]
    found = ConvexHull(np.column_stack([points, heights])) if len(points) > 3 else None
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


def test_chunks_and_the_window_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, mask = images(7, 10, 10), torch.cat([masks(4, 10, 10, 0.9), masks(3, 10, 10, 0.3)])
    expected = Linear().impute(truth, mask)
    monkeypatch.setattr(linear, "PAIRS", {"cpu": 1, "cuda": 1})
    torch.testing.assert_close(Linear().impute(truth, mask), expected, atol=1e-9, rtol=0)
    monkeypatch.setattr(linear, "REACH", 1)
    torch.testing.assert_close(Linear().impute(truth, mask), expected, atol=1e-9, rtol=0)
