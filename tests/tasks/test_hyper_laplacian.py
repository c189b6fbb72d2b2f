"""PRFlow's gradient prior: its value by loops, its sign, its smooth derivative, the measured values of real digits."""

from __future__ import annotations

import itertools

import pytest
import torch

from lacuna.errors import LacunaError
from lacuna.tasks.mcflow.hyper_laplacian import GREY_LEVEL, hyper_laplacian


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_is_the_sum_over_neighbours() -> None:
    x = image(2, 3, 4, 5)
    found = hyper_laplacian(x, eps=1e-24)
    for one, value in zip(x, found, strict=True):
        total = 0.0
        for c, row, column in itertools.product(range(3), range(4), range(5)):
            for r, k in ((row + 1, column), (row, column + 1)):
                if r < 4 and k < 5:
                    total += abs(float(one[c, r, k] - one[c, row, column])) ** (1 / 3)
        assert float(value) == pytest.approx(total, rel=1e-6)


def test_number_of_differences() -> None:
    """A checkerboard of 0 and 1 differs everywhere: 1512 terms for MNIST, 5952 for 3x32x32 (prflow.md 2.3)."""
    for shape, terms in (((1, 28, 28), 1512), ((3, 32, 32), 5952)):
        row, column = torch.arange(shape[1])[:, None], torch.arange(shape[2])
        board = ((row + column) % 2).double().expand(1, *shape)
        assert float(hyper_laplacian(board, eps=1e-12)) == pytest.approx(terms, rel=1e-3)


def test_constant_images_cost_nothing_and_noise_costs_more_than_smoothness() -> None:
    assert hyper_laplacian(torch.full((2, 3, 6, 6), 0.7)).eq(0).all()
    assert hyper_laplacian(torch.rand(3, 1, 1, 1)).eq(0).all()
    ramp = torch.linspace(0, 1, 20, dtype=torch.float64).expand(1, 1, 20, 20)
    shuffled = ramp[..., torch.randperm(20, generator=torch.Generator().manual_seed(1))]
    assert hyper_laplacian(shuffled) > hyper_laplacian(ramp) > 0


def test_one_edge_is_cheaper_than_a_ramp_to_the_same_height() -> None:
    """What alpha < 1 is for: sparse gradients. At alpha = 1 both cost the same."""
    ramp = torch.linspace(0, 1, 9, dtype=torch.float64).expand(1, 1, 1, 9)
    edge = (ramp > 0.4).double()
    assert hyper_laplacian(edge) < 0.5 * hyper_laplacian(ramp)
    torch.testing.assert_close(hyper_laplacian(edge, 1.0, 1e-9), hyper_laplacian(ramp, 1.0, 1e-9))
    assert float(hyper_laplacian(ramp, 2.0)) == pytest.approx(8 * (1 / 8) ** 2)


def test_the_gradient_is_that_of_finite_differences_also_at_zero() -> None:
    x = image(2, 2, 3, 4)
    x[:, 0] = 0.3  # a constant channel
    assert torch.autograd.gradcheck(hyper_laplacian, (x.requires_grad_(),))
    flat = torch.zeros(1, 1, 5, 5, requires_grad=True)
    hyper_laplacian(flat).sum().backward()
    assert flat.grad is not None and flat.grad.eq(0).all()


@pytest.mark.parametrize(("eps", "steepest"), [(1e-2, 4.1), (GREY_LEVEL, 7.7), (1e-3, 19.0)])
def test_the_steepest_slope_is_the_one_derived(eps: float, steepest: float) -> None:
    """reference/prflow.md 2.6; a pair of pixels has one difference."""
    d = torch.linspace(0, 0.1, 20_001, dtype=torch.float64, requires_grad=True)
    hyper_laplacian(torch.stack([torch.zeros_like(d), d], 1)[:, None, None], eps=eps).sum().backward()
    assert d.grad is not None and float(d.grad.max()) == pytest.approx(steepest, rel=0.02)


def test_half_precision_is_summed_in_single() -> None:
    x = image(2, 1, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(hyper_laplacian(x.float()), hyper_laplacian(x).float())
    found = hyper_laplacian(x.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, hyper_laplacian(x.bfloat16().float()))


def test_mistakes_are_named() -> None:
    with pytest.raises(LacunaError, match="alpha=0 "):
        hyper_laplacian(torch.zeros(1, 1, 2, 2), alpha=0)
    with pytest.raises(LacunaError, match=r"eps=0\.0 "):
        hyper_laplacian(torch.zeros(1, 1, 2, 2), eps=0.0)
