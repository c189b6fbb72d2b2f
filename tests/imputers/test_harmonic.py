"""Harmonic and biharmonic inpainting against scipy's direct solution of equations written down pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt, laplace
from torch import Tensor

from lacuna.errors import LacunaError
from lacuna.imputers import direct, harmonic, separate
from lacuna.imputers.harmonic import Harmonic, farthest, laplacian
from lacuna.imputers.linear import Linear
from lacuna.imputers.nearest import Nearest, nearest_index

ORDERS = pytest.mark.parametrize("order", [1, 2])


def choose(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every image solved in one way, whatever its size."""
    monkeypatch.setattr(direct, "BAND", 0 if way == "sparse" else 2**40)
    monkeypatch.setattr(harmonic, "LARGE", 0 if way == "iterated" else 2**40)
    monkeypatch.setattr(separate, "NEAR", 2**40)
    monkeypatch.setattr(separate, "iterating", lambda *_: -1.0)


def masks(n: int, height: int, width: int, rate: float) -> Tensor:
    """(n,1,height,width), each with at least one observed pixel."""
    seen = torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(7)) > rate
    seen[..., height // 2, width // 3] = True
    return seen


def images(n: int, channels: int, height: int, width: int) -> Tensor:
    """In the middle of the grey levels, so that nothing is clipped."""
    generator = torch.Generator().manual_seed(5)
    return 0.45 + 0.1 * torch.rand(n, channels, height, width, generator=generator, dtype=torch.float64)


def solved(image: np.ndarray, seen: np.ndarray, order: int) -> np.ndarray:
    """scikit-image's equations: at missing pixels the ``order``-fold ndimage.laplace of the whole image is zero."""
    n = image.size
    matrix = np.eye(n).reshape(n, *image.shape)
    for _ in range(order):
        matrix = np.stack([laplace(one) for one in matrix])
    matrix = matrix.reshape(n, n).T
    gone, there = ~seen.flatten(), seen.flatten()
    filled = image.flatten().copy()
    filled[gone] = np.linalg.solve(matrix[gone][:, gone], -matrix[gone][:, there] @ filled[there])
    return filled.reshape(image.shape)


@ORDERS
@pytest.mark.parametrize("way", ["banded", "sparse", "iterated"])
@pytest.mark.parametrize(
    ("size", "rate"), [((9, 9), 0.6), ((7, 12), 0.9), ((12, 7), 0.98), ((1, 9), 0.7), ((9, 2), 0.7)]
)
def test_every_way_is_the_dense_solution(
    order: int, size: tuple[int, int], rate: float, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(way, monkeypatch)
    truth, mask = images(4, 2, *size), masks(4, *size, rate)
    filled = Harmonic(order, tolerance=1e-10).impute(truth, mask)
    for image, result, seen in zip(truth, filled, mask, strict=True):
        for channel, found in zip(image, result, strict=True):
            expected = solved(channel.numpy(), seen[0].numpy(), order).clip(0, 1)
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@ORDERS
def test_a_large_missing_square(order: int) -> None:
    """The hardest case: half the side of an image."""
    truth = torch.linspace(0, 1, 32, dtype=torch.float64).square().expand(1, 1, 32, 32).contiguous()
    mask = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    mask[..., 8:24, 8:24] = False
    found = Harmonic(order).impute(truth, mask)[0, 0].numpy()
    np.testing.assert_allclose(found, solved(truth[0, 0].numpy(), mask[0, 0].numpy(), order), atol=1e-7)


def test_harmonic_values_are_means_and_biharmonic_ones_continue_slopes() -> None:
    """Between two pixels of a line both are linear; one step inside the border only the biharmonic one is."""
    line = torch.zeros(1, 1, 1, 9, dtype=torch.float64)
    line[..., 8] = 0.8
    ends = torch.zeros(1, 1, 1, 9, dtype=torch.bool)
    ends[..., [0, 8]] = True
    expected = torch.linspace(0, 0.8, 9, dtype=torch.float64).view_as(line)
    torch.testing.assert_close(Harmonic(1, 1e-10).impute(line, ends), expected)
    torch.testing.assert_close(Linear().impute(line, ends), expected, atol=1e-6, rtol=0)
    plane = 0.3 + 0.02 * torch.arange(12.0).double() + 0.01 * torch.arange(12.0).double()[:, None]
    mask = torch.ones(1, 1, 12, 12, dtype=torch.bool)
    mask[..., 3:9, 3:9] = False
    for order in (1, 2):
        torch.testing.assert_close(
            Harmonic(order, 1e-10).impute(plane[None, None], mask)[0, 0], plane, atol=1e-7, rtol=0
        )


@ORDERS
def test_masks_of_their_own_and_corner_cases(order: int) -> None:
    """Channel by channel is the same as one by one; one observed pixel makes a constant image, none a grey one."""
    truth = images(2, 3, 6, 5)
    mask = torch.cat([masks(2, 6, 5, 0.5), masks(2, 6, 5, 1.0), torch.zeros(2, 1, 6, 5, dtype=torch.bool)], 1)
    filled = Harmonic(order, 1e-9).impute(truth, mask)
    one = Harmonic(order, 1e-9).impute(truth[:, :1], mask[:, :1])
    torch.testing.assert_close(filled[:, :1], one, atol=1e-7, rtol=0)
    torch.testing.assert_close(filled[:, 1], truth[:, 1, 3:4, 1:2].expand(-1, 6, 5), atol=1e-6, rtol=0)
    assert filled[:, 2].eq(0.5).all()
    nothing = torch.zeros(3, 1, 1, 1, dtype=torch.bool)
    assert Harmonic(order).impute(torch.rand(3, 1, 1, 1), nothing).eq(0.5).all()


@ORDERS
@pytest.mark.parametrize("way", ["banded", "sparse", "iterated"])
def test_the_other_images_change_nothing(order: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: neither the other images of the batch, two of which have one mask, nor the interval of checks."""
    choose(way, monkeypatch)
    truth, mask = images(4, 2, 9, 9), torch.cat([masks(1, 9, 9, rate) for rate in (0.2, 0.6, 0.97, 0.6)])
    together = Harmonic(order).impute(truth, mask)
    for i in range(4):
        assert torch.equal(Harmonic(order).impute(truth[i : i + 1], mask[i : i + 1]), together[i : i + 1])
    monkeypatch.setattr(harmonic, "CHECK_EVERY", 3)
    assert torch.equal(Harmonic(order).impute(truth, mask), together)


@ORDERS
def test_what_takes_too_many_steps_is_solved_directly(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second image has one pixel in reach of others, so that two steps solve it."""
    truth, mask = images(2, 2, 9, 9), torch.cat([masks(1, 9, 9, 0.9), torch.ones(1, 1, 9, 9, dtype=torch.bool)])
    mask[1, 0, 4, 4] = False
    expected = Harmonic(order).impute(truth, mask)
    choose("iterated", monkeypatch)
    _, finished = Harmonic(order)._iterated(truth.clone(), truth, ~mask[:, 0], 1e-9)
    assert finished.all()
    _, finished = Harmonic(order, steps=2)._iterated(truth.clone(), truth, ~mask[:, 0], 1e-9)
    assert finished.tolist() == [False, True]
    torch.testing.assert_close(Harmonic(order, steps=2).impute(truth, mask), expected, atol=1e-9, rtol=0)


@ORDERS
def test_only_near_observed_pixels_a_large_image_is_iterated(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only if that is quicker."""
    truth, mask = images(2, 1, 30, 30), masks(2, 30, 30, 0.4)
    mask[1, 0, 4:26, 4:26] = False
    far = [distance_transform_edt(~one.numpy()).max() for one in mask[:, 0]]
    torch.testing.assert_close(farthest(nearest_index(mask[:, 0])), torch.tensor(far, dtype=torch.float64))
    assert far[0] <= separate.NEAR < far[1]
    expected = Harmonic(order).impute(truth, mask)
    monkeypatch.setattr(harmonic, "LARGE", 0)
    calls = []
    iterate = separate.iterate
    monkeypatch.setattr(separate, "iterate", lambda x, *rest: calls.append(x.clone()) or iterate(x, *rest))
    for seconds, images_iterated in ((1e9, 0), (0.0, 1)):
        monkeypatch.setattr(separate, "iterating", lambda *_, seconds=seconds: seconds)
        torch.testing.assert_close(Harmonic(order).impute(truth, mask), expected, atol=1e-6, rtol=0)
        assert len(calls) == images_iterated
    start = Nearest().impute(truth, mask)[0]
    assert torch.equal(calls[0], start)


@ORDERS
@pytest.mark.parametrize("kind", ["holes", "stripes", "scattered"])
@pytest.mark.parametrize("side", [7, 20])
def test_holes_and_windows_of_a_large_image_are_the_whole_solution(
    order: int, kind: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, mask = images(1, 2, 45, 52), torch.ones(1, 1, 45, 52, dtype=torch.bool)
    if kind == "holes":  # at the border, in a corner, and two that meet at a corner or are one pixel apart
        for top, bottom, left, right in ((0, 3, 10, 20), (40, 45, 45, 52), (10, 15, 10, 15), (15, 18, 15, 20)):
            mask[..., top:bottom, left:right] = False
        mask[..., 10:15, 16:18] = False
    else:
        mask[:] = masks(1, 45, 52, 0.6) if kind == "scattered" else torch.arange(52) % 9 < 5
    expected = Harmonic(order).impute(truth, mask)
    monkeypatch.setattr(harmonic, "LARGE", 0)
    monkeypatch.setattr(separate, "SIDE", side)
    for seconds in (1e9, -1.0):
        monkeypatch.setattr(separate, "iterating", lambda *_, seconds=seconds: seconds)
        found = Harmonic(order).impute(truth, mask)
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)


@ORDERS
def test_holes_are_those_of_the_matrix(order: int) -> None:
    """Pixels of different holes do not meet in the equations."""
    missing = ~masks(1, 30, 30, 0.3)[0, 0].numpy()
    found = separate.holes(missing, order)
    assert np.array_equal(found.number > 0, missing) and found.sizes.sum() == missing.sum()
    matrix = direct.assembled(missing[None], order)[0]
    number = found.number[missing]
    coupled = matrix.value != 0
    assert np.array_equal(number[matrix.row[coupled]], number[matrix.column[coupled]])
    assert len(found.boxes) > 3
    for one, box in enumerate(found.boxes, 1):
        where = np.argwhere(found.number == one)
        assert (*where.min(0), *(where.max(0) + 1)) == (box.top, box.left, box.bottom, box.right)


@ORDERS
def test_a_hole_that_is_too_large_is_refused(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it takes too many steps of the iteration, too."""
    truth, mask = images(1, 1, 30, 30), torch.ones(1, 1, 30, 30, dtype=torch.bool)
    mask[..., 2:28, 2:28] = False
    monkeypatch.setattr(harmonic, "LARGE", 0)
    monkeypatch.setattr(separate, "LARGEST", {order: 600})
    expected = Harmonic(order).impute(truth, mask)  # iterated
    with pytest.raises(LacunaError, match="676 connected pixels"):
        Harmonic(order, steps=16).impute(truth, mask)
    monkeypatch.setattr(separate, "PATIENCE", 0)
    with pytest.raises(LacunaError, match="676 connected pixels"):
        Harmonic(order).impute(truth, mask)
    monkeypatch.setattr(separate, "LARGEST", {order: 700})
    torch.testing.assert_close(Harmonic(order).impute(truth, mask), expected, atol=1e-6, rtol=0)


def test_the_laplacian_is_scipy_s() -> None:
    x = torch.randn(3, 7, 4, dtype=torch.float64)
    expected = -np.stack([laplace(one) for one in x.numpy()])
    np.testing.assert_allclose(laplacian(x).numpy(), expected, atol=1e-12)


def test_mistakes_are_named() -> None:
    with pytest.raises(LacunaError, match=r"imputer\.order=3"):
        Harmonic(3)
    with pytest.raises(LacunaError, match=r"imputer\.tolerance=0"):
        Harmonic(tolerance=0)
    with pytest.raises(LacunaError, match=r"imputer\.steps=0"):
        Harmonic(steps=0)
