"""Imputation with a flow and a network that moves its latent values: MCFlow and, with a prior, PRFlow.

Sources: Richardson et al. 2020 (MCFlow) and its public code; Bernal, arXiv 2104.01482, sections 3.2 and 4 (PRFlow).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._functorch import config as functorch_config
from torch.func import functional_call

from lacuna import registry
from lacuna.errors import LacunaError
from lacuna.flows.realnvp import RealNVP
from lacuna.imputers.base import Imputer
from lacuna.nets.checks import check_count
from lacuna.nets.dense_net import DenseNet

REPLAYS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "none": None}


class Guess(NamedTuple):
    """What the networks make of images: x̂ = G⁻¹(H(G(x))), neither clipped nor pasted.

    Attributes:
        image: (B,C,H,W), any real values.
        log_prob: (B,), log p(image) under G, in nats.
    """

    image: Tensor
    log_prob: Tensor


class MCFlow(Imputer):
    """A flow G (RealNVP on the flat image) and a network H (fully connected) between its latent values.

    From a simple fill each *stage* takes an image x to x̂ = G⁻¹(H(G(x))), clipped, with the observed pixels put back.
    In training the stages alternate with learning: all images are moved by one stage, then G is made anew. So an image
    that training has not seen goes through all the stages in their order, each with the G and H of its time, as the
    published code does with its test images; the last stage is that of the networks as they are now. What earlier
    stages looked like is kept (``replay``); without that, the last one is repeated.

    Args:
        shape: (C, H, W) of the images.
        couplings: of G, an even number.
        widths: of the hidden layers of G's networks; None = three as wide as the image, as published.
        imputer_widths: of H's hidden layers; None = four as wide as the image (MCFlow's code).
        fill: the imputer to start from, ``{type: "module.Class", **arguments}``; one that needs no fit.
        replay: how the networks of earlier stages are kept: ``float32``, ``bfloat16`` or ``none``.
        rounds: how often the last stage is passed.

    Raises:
        LacunaError: a value that means nothing.
    """

    stages: Tensor
    halves: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        couplings: int = 6,
        widths: Sequence[int] | None = None,
        imputer_widths: Sequence[int] | None = None,
        fill: Mapping[str, Any] | None = None,
        replay: str = "float32",
        rounds: int = 1,
    ) -> None:
        super().__init__()
        check_count("imputer.rounds", rounds)
        if replay not in REPLAYS:
            raise LacunaError(f"imputer.replay={replay!r} is none of {', '.join(REPLAYS)}.")
        self.shape, self.rounds, self.replay = tuple(shape), rounds, replay
        self._flow_arguments = (tuple(shape), couplings, widths)
        self.flow = RealNVP(*self._flow_arguments)
        size = self.flow.size
        self.net = DenseNet(size, size, [size] * 4 if imputer_widths is None else imputer_widths)
        self.fill: Imputer = registry.build("imputer", fill or {"type": "nearest.RingNearest"})
        if self.fill.needs_fit:
            raise LacunaError(f"imputer.fill.type={type(self.fill).__name__} must be fitted: take nearest.RingNearest.")
        weights = sum(weight.numel() for weight in self._weights())
        kept = REPLAYS[replay] or torch.float32
        self.register_buffer("stages", torch.empty(0, weights, dtype=kept))  # the networks of earlier stages, flat
        self.register_buffer("halves", torch.empty(0, couplings, size, dtype=torch.bool))  # what their couplings keep

    # ------------------------------------------------------------------ one stage

    def start(self, observed: Tensor, mask: Tensor) -> Tensor:
        """The images (B,C,H,W) before the first stage; arguments as for :meth:`impute`."""
        return self.fill.impute(observed, mask)

    def guess(self, x: Tensor) -> Guess:
        """What G and H make of completed images (B,C,H,W)."""
        return self.decode(self.flow.encode(x)[0])

    def decode(self, z: Tensor) -> Guess:
        """The guess from latent values (B,C,H,W): one inverse pass, which knows the density of its result."""
        return Guess(*self.flow.decode(self.moved(z)))

    def moved(self, z: Tensor) -> Tensor:
        """H(z), (B,C,H,W)."""
        moved: Tensor = self.net(z.flatten(1)).to(z.dtype).view(z.shape)
        return moved

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the two passes of training: into latent values, and from there to the guess.

        Neither is a ``forward``. Whatever imputes, with other networks' weights at times, stays as it is.
        """
        # leaky training goes backwards through one pass twice, so its buffers may not be given away the first time
        functorch_config.donated_buffer = False
        for owner, name in ((self.flow, "encode"), (self, "decode")):
            setattr(owner, name, _compiled_in_training(owner, getattr(owner, name), args, kwargs))

    @torch.no_grad()
    def advance(self, x: Tensor, observed: Tensor, mask: Tensor) -> Tensor:
        """Completed images (B,C,H,W) one stage on: their guess in [0, 1], with the ``observed`` pixels put back."""
        return torch.where(mask, observed, self.guess(x).image.to(x.dtype).clamp(0, 1))

    # ------------------------------------------------------------------ from stage to stage

    @torch.no_grad()
    def close_stage(self) -> None:
        """Keep the networks for the images to come, and make G anew: other halves and weights, in the same tensors.

        From torch's global generator.
        """
        if REPLAYS[self.replay] is not None:
            flat = torch.cat([weight.detach().flatten().to(self.stages.dtype) for weight in self._weights()])
            self.stages = torch.cat([self.stages, flat[None]])
            self.halves = torch.cat([self.halves, torch.stack([half.clone() for half in self._halves()])[None]])
        fresh = RealNVP(*self._flow_arguments).state_dict()
        for name, tensor in self.flow.state_dict().items():
            tensor.copy_(fresh[name])

    def _fill(self, observed: Tensor, mask: Tensor) -> Tensor:
        x = self.start(observed, mask)
        for number in range(len(self.stages)):
            stage = functional_call(_Stage(self), self._networks(number), (x,))
            x = torch.where(mask, observed, stage.clamp(0, 1))
        for _ in range(self.rounds):
            x = self.advance(x, observed, mask)
        return x

    def _networks(self, number: int) -> dict[str, Tensor]:
        """Parameters and halves of an earlier stage, by name."""
        found: dict[str, Tensor] = {}
        for prefix, network in (("flow", self.flow), ("net", self.net)):
            found |= {f"owner.{prefix}.{name}": weight for name, weight in network.named_parameters()}
        parts = self.stages[number].split([weight.numel() for weight in found.values()])
        found = {
            name: part.view(weight.shape).to(weight.dtype)
            for (name, weight), part in zip(found.items(), parts, strict=True)
        }
        kept = {f"owner.flow.couplings.{i}.kept": half for i, half in enumerate(self.halves[number])}
        return found | kept

    def _weights(self) -> Iterator[Tensor]:
        yield from self.flow.parameters()
        yield from self.net.parameters()

    def _halves(self) -> Iterator[Tensor]:
        for coupling in self.flow.couplings:
            half = coupling.kept
            assert isinstance(half, Tensor)
            yield half

    @property
    def floor(self) -> float:
        """What -log p can never fall below, in nats an image."""
        return self.flow.floor

    @property
    def size(self) -> int:
        """Values of an image."""
        return math.prod(self.shape)


def _compiled_in_training(
    owner: nn.Module, plain: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[..., Any]:
    """A method of ``owner`` that is compiled while it trains."""
    compiled = torch.compile(plain, *args, **kwargs)

    def method(*given: Any) -> Any:
        return (compiled if owner.training else plain)(*given)

    return method


class _Stage(nn.Module):
    """x -> x̂ as a module's forward, which is what weights can be lent to for one call."""

    def __init__(self, owner: MCFlow) -> None:
        super().__init__()
        self.owner = owner

    def forward(self, x: Tensor) -> Tensor:
        return self.owner.guess(x).image
