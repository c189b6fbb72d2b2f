"""The network that corrects an interpolation: the interpolation, its initial output and its receptive field."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lacuna.nets.residual_net import ResidualBlock, ResidualUNet, pull_push
from tests.dense import random_images, random_mask


def by_hand(image: list[list[float]], seen: list[list[bool]]) -> list[list[float]]:
    """Pull-push of a square of side 2^n, pixel by pixel: observed means of 2x2 cells, then bilinear upsampling."""
    side = len(image)
    if side == 1:
        return [[image[0][0] if seen[0][0] else 0.5]]
    half = side // 2
    coarse, there = [[0.0] * half for _ in range(half)], [[False] * half for _ in range(half)]
    for i in range(half):
        for j in range(half):
            cell = [(2 * i + a, 2 * j + b) for a in (0, 1) for b in (0, 1)]
            shown = [image[r][c] for r, c in cell if seen[r][c]]
            there[i][j], coarse[i][j] = bool(shown), sum(shown) / len(shown) if shown else 0.0
    filled = by_hand(coarse, there)

    def between(r: int, c: int) -> float:
        """A pixel's centre lies 3/4 in its own cell and 1/4 in the neighbour's, in each direction."""
        total = 0.0
        for row, wr in ((r // 2, 0.75), (min(max(r // 2 + (1 if r % 2 else -1), 0), half - 1), 0.25)):
            for column, wc in ((c // 2, 0.75), (min(max(c // 2 + (1 if c % 2 else -1), 0), half - 1), 0.25)):
                total += wr * wc * filled[row][column]
        return total

    return [[image[r][c] if seen[r][c] else between(r, c) for c in range(side)] for r in range(side)]


def test_pull_push_by_hand() -> None:
    image, mask = random_images(1, (1, 8, 8)), torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(4)) > 0.8
    assert 2 < mask.sum() < 30
    expected = torch.tensor(by_hand(image[0, 0].tolist(), mask[0, 0].tolist()), dtype=image.dtype)
    torch.testing.assert_close(pull_push(image, mask)[0, 0], expected)


@pytest.mark.parametrize("sides", [(8, 8), (7, 9), (1, 5), (28, 28)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_pull_push_keeps_what_is_observed_and_invents_no_extremes(sides: tuple[int, int], per_channel: bool) -> None:
    shape = (2, *sides)
    image, mask = random_images(4, shape), random_mask(4, shape, per_channel=per_channel).expand(4, -1, *sides)
    filled = pull_push(image, mask)
    where = mask.expand_as(image)
    assert torch.equal(filled[where], image[where])
    for x, y, m in zip(filled.flatten(0, 1), image.flatten(0, 1), where.flatten(0, 1), strict=True):
        if m.any():
            assert x.min() >= y[m].min() - 1e-9 and x.max() <= y[m].max() + 1e-9
    noise = torch.where(where, image, torch.full_like(image, torch.nan))
    assert torch.equal(pull_push(noise, mask), filled)  # holes are never read
    constant = torch.full_like(image, 0.3)
    seen = mask.clone()
    seen[..., 0, 0] = True
    torch.testing.assert_close(pull_push(constant, seen), constant)
    torch.testing.assert_close(pull_push(image, torch.zeros_like(mask)), torch.full_like(image, 0.5))


def test_a_new_network_returns_the_interpolation() -> None:
    observed, mask = random_images(3, (2, 9, 10)).float(), random_mask(3, (2, 9, 10))
    observed = torch.where(mask, observed, 0)
    net = ResidualUNet((2, 9, 10), 1, 2, ((4, 1), (6, 2)))
    assert torch.equal(net(observed, mask).mean[:, 0], pull_push(observed, mask))
    assert (net(observed, mask).factors != 0).any()


def test_a_new_block_changes_little() -> None:
    torch.manual_seed(0)
    block, x = ResidualBlock(16), torch.randn(4, 16, 8, 8)
    assert 0 < (block(x) - x).std() < 0.1


def test_every_pixel_sees_the_whole_of_a_small_image() -> None:
    torch.manual_seed(0)
    net = ResidualUNet((1, 8, 8), 1, 0, ((6, 1), (8, 1), (8, 1)))
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    observed = random_images(1, (1, 8, 8)).float().requires_grad_()
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    net(observed, mask).mean[0, 0, 0, 0, 0].backward()
    gradient: Tensor | None = observed.grad
    assert gradient is not None and (gradient != 0).all()
