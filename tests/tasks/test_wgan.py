"""The losses of a Wasserstein GAN against critics whose gradients are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lacuna.tasks.common.wgan import critic_losses, frozen, gradient_penalty, weigh_gradient

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def share(n: int) -> torch.Tensor:
    return torch.rand(n, generator=GENERATOR, dtype=torch.float64)


def test_a_linear_critic_s_penalty_is_its_norm_s():
    """Its gradient is w everywhere: (|w| - 1)^2, wherever between real and fake."""
    w = normal(2, 3, 4)
    real, fake = normal(5, 2, 3, 4), normal(5, 2, 3, 4)
    found = gradient_penalty(lambda x: (x * w).flatten(1).sum(1), [real], [fake], share(5))
    torch.testing.assert_close(found, (w.square().sum().sqrt() - 1) ** 2, rtol=1e-12, atol=0)


def test_of_a_pair_the_norm_is_that_of_both_gradients_together():
    """D(x, z) = |x|^2 / 2 + v z: the gradient at the point between is (x, v)."""
    v = normal(3)
    real, fake, xi = (normal(4, 6), normal(4, 3)), (normal(4, 6), normal(4, 3)), share(4)
    found = gradient_penalty(lambda x, z: 0.5 * x.square().sum(1) + z @ v, real, fake, xi)
    expected = []
    for number in range(4):
        between = xi[number] * real[0][number] + (1 - xi[number]) * fake[0][number]
        expected.append((float((between @ between + v @ v).sqrt()) - 1) ** 2)
    assert float(found.detach()) == pytest.approx(sum(expected) / 4, rel=1e-12)


def test_the_penalty_s_gradient_in_the_weights_is_right():
    real, fake, xi = normal(3, 4), normal(3, 4), share(3)

    def penalty(w: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return gradient_penalty(lambda x: torch.tanh(x @ w) @ v, [real], [fake], xi)

    weights = normal(4, 5).requires_grad_(), normal(5).requires_grad_()
    assert torch.autograd.gradcheck(penalty, weights)


def test_a_critic_lowers_the_distance_s_negative_and_ten_times_the_penalty():
    w, real, fake = normal(4), normal(6, 4), normal(6, 4)
    loss, distance = critic_losses(lambda x: x @ w, [real], [fake])
    apart = (real.mean(0) - fake.mean(0)) @ w
    torch.testing.assert_close(distance, apart)
    torch.testing.assert_close(loss, 10 * (w.norm() - 1) ** 2 - apart)


def test_a_critic_without_slope_has_a_finite_gradient():
    dead = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        dead[0].bias.fill_(-100.0)
    loss = gradient_penalty(lambda x: dead(x)[:, 0], [torch.rand(2, 3)], [torch.rand(2, 3)], torch.rand(2))
    assert float(loss.detach()) == 1
    loss.backward()
    assert all(w.grad is None or w.grad.isfinite().all() for w in dead.parameters())


def test_a_weighed_gradient_leaves_the_value():
    x = normal(5).requires_grad_()
    y = weigh_gradient(x, 0.3)
    torch.testing.assert_close(y, x)
    (y * torch.arange(5)).sum().backward()
    torch.testing.assert_close(x.grad, 0.3 * torch.arange(5, dtype=torch.float64))


def test_frozen_modules_get_no_gradient_and_pass_it_on():
    layer, x = nn.Linear(2, 1), torch.rand(3, 2, requires_grad=True)
    with frozen([layer]):
        layer(x).sum().backward()
    assert layer.weight.grad is None and x.grad is not None
    layer(x).sum().backward()
    assert layer.weight.grad is not None
