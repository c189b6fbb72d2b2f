"""The losses of a Wasserstein GAN with gradient penalty (Gulrajani et al. 2017), of images or of pairs of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PENALTY = 10.0
"""Weight of the gradient penalty, as in all published code."""

Critic = Callable[..., Tensor]


def gradient_penalty(critic: Critic, real: Sequence[Tensor], fake: Sequence[Tensor], share: Tensor) -> Tensor:
    """E[(|grad D(y)| - 1)^2], y = share real + (1 - share) fake; the norm is over all inputs of the critic.

    Args:
        critic: maps the tensors to scores (B,), each a function of its own sample only (no batch normalisation).
        real, fake: as many tensors (B, ...) as the critic takes.
        share: (B,) in [0, 1], one for all tensors of a sample.

    Returns:
        A scalar, differentiable with respect to the critic's weights.
    """
    between = [
        (a + share.view(-1, *[1] * (a.ndim - 1)).to(a.dtype) * (b - a)).detach().requires_grad_()
        for a, b in zip(fake, real, strict=True)
    ]
    with torch.enable_grad():
        gradients = torch.autograd.grad(critic(*between).sum(), between, create_graph=True)
    whole = torch.cat([gradient.flatten(1) for gradient in gradients], 1)
    norm: Tensor = torch.linalg.vector_norm(whole, dim=1)
    return (norm - 1).square().mean()


def critic_losses(critic: Critic, real: Sequence[Tensor], fake: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The critic's loss, E[D(fake)] - E[D(real)] + 10 penalty, and its distance estimate E[D(real)] - E[D(fake)]."""
    # one pass for both, as critics have no batch normalisation
    scores = critic(*(torch.cat(pair) for pair in zip(real, fake, strict=True)))
    distance = scores[: len(real[0])].mean() - scores[len(real[0]) :].mean()
    share = torch.rand(len(real[0]), device=real[0].device)
    return PENALTY * gradient_penalty(critic, real, fake, share) - distance, distance.detach()


def weigh_gradient(x: Tensor, weight: float) -> Tensor:
    """``x``; its gradient is multiplied by ``weight`` in the backward pass."""
    return x * weight + x.detach() * (1 - weight)


@contextmanager
def frozen(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Context in which no gradients are computed for the weights of these modules."""
    weights = [weight for module in modules for weight in module.parameters()]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
