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
from lacuna.flows.normal import NormalFlow
from lacuna.imputers.base import Imputer
from lacuna.nets.checks import check_count

FLOW = {"type": "realnvp.RealNVP"}
NET = {"type": "latent_net.DenseLatent"}
FILL = {"type": "nearest.RingNearest"}
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
    """A flow G and a network H between its latent values; both fully connected as published.

    From a simple fill each *stage* takes an image x to x̂ = G⁻¹(H(G(x))), clipped, with the observed pixels put back.
    In training the stages alternate with learning: all images are moved by one stage, then G is made anew. So an image
    that training has not seen goes through all the stages in their order, each with the G and H of its time, as the
    published code does with its test images; the last stage is that of the networks as they are now. What earlier
    stages looked like is kept (``replay``); without that, the last one is repeated.

    Args:
        shape: (C, H, W) of the images.
        flow: spec of G, a :class:`lacuna.flows.normal.NormalFlow`; by default MCFlow's RealNVP, as wide as the image.
        net: spec of H (``nets/latent_net.py``); by default MCFlow's, four hidden layers as wide as the image.
        fill: spec of the imputer to start from; one that needs no fit; by default MCFlow's.
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
        flow: Mapping[str, Any] | None = None,
        net: Mapping[str, Any] | None = None,
        fill: Mapping[str, Any] | None = None,
        replay: str = "float32",
        rounds: int = 1,
    ) -> None:
        super().__init__()
        check_count("imputer.rounds", rounds)
        if replay not in REPLAYS:
            raise LacunaError(f"imputer.replay={replay!r} is none of {', '.join(REPLAYS)}.")
        self.shape, self.rounds, self.replay = tuple(shape), rounds, replay
        self._flow_spec = flow or FLOW
        self.flow = self._new_flow()
        self.net: nn.Module = registry.build("net", net or NET, shape=self.shape)
        self.fill: Imputer = registry.build("imputer", fill or FILL)
        if self.fill.needs_fit:
            raise LacunaError(f"imputer.fill.type={type(self.fill).__name__} must be fitted: take nearest.RingNearest.")
        weights = sum(weight.numel() for weight in self._weights())
        halves = sum(half.numel() for half in self._halves().values())
        kept = REPLAYS[replay] or torch.float32
        self.register_buffer("stages", torch.empty(0, weights, dtype=kept))  # the networks of earlier stages, flat
        self.register_buffer("halves", torch.empty(0, halves, dtype=torch.bool))  # what their couplings keep, if random

    def _new_flow(self) -> NormalFlow:
        made: NormalFlow = registry.build("flow", self._flow_spec, shape=self.shape)
        if not isinstance(made, NormalFlow):
            raise LacunaError(
                f"imputer.flow.type={self._flow_spec['type']} is no flow of whole images: {FLOW['type']} is."
            )
        return made

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
        moved: Tensor = self.net(z)
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
    def close_stage(self, *, renew: bool = True) -> None:
        """Keep the networks for the images to come, and make G anew: other halves and weights, in the same tensors.

        From torch's global generator.

        Args:
            renew: False leaves G as it is.
        """
        if self.replayed:
            flat = torch.cat([weight.detach().flatten().to(self.stages.dtype) for weight in self._weights()])
            self.stages = torch.cat([self.stages, flat[None]])
            halves = [half.flatten() for half in self._halves().values()]
            self.halves = torch.cat([self.halves, torch.cat([self.halves.new_empty(0), *halves])[None]])
        if renew:
            fresh = self._new_flow().state_dict()
            for name, tensor in self.flow.state_dict().items():
                tensor.copy_(fresh[name])

    def _fill(self, observed: Tensor, mask: Tensor) -> Tensor:
        x = self.start(observed, mask)
        for number in range(len(self.stages)):
            stage = functional_call(_Stage(self), self._networks(number), (x,))
            x = torch.where(mask, observed, stage.clamp(0, 1))
        return self.last_stage(x, observed, mask)

    def last_stage(self, x: Tensor, observed: Tensor, mask: Tensor) -> Tensor:
        """Completed images (B,C,H,W) that have passed all earlier stages, through that of the networks as they are."""
        for _ in range(self.rounds):
            x = self.advance(x, observed, mask)
        return x

    def _networks(self, number: int) -> dict[str, Tensor]:
        """Parameters and halves of an earlier stage, by name."""
        found: dict[str, Tensor] = {}
        for prefix, network in (("flow", self.flow), ("net", self.net)):
            found |= {f"owner.{prefix}.{name}": weight for name, weight in network.named_parameters()}
        found = _shared_out(self.stages[number], found)
        return found | _shared_out(self.halves[number], {f"owner.flow.{k}": v for k, v in self._halves().items()})

    def _weights(self) -> Iterator[Tensor]:
        yield from self.flow.parameters()
        yield from self.net.parameters()

    def _halves(self) -> dict[str, Tensor]:
        """What of G is random besides its weights, by name."""
        return {name: buffer for name, buffer in self.flow.named_buffers() if buffer.dtype == torch.bool}

    @property
    def replayed(self) -> bool:
        """Whether images to come pass all earlier stages."""
        return REPLAYS[self.replay] is not None

    @property
    def size(self) -> int:
        """Values of an image."""
        return math.prod(self.shape)


def _shared_out(flat: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values of ``flat`` in the shapes and types of ``tensors``, one after another."""
    parts = flat.split([tensor.numel() for tensor in tensors.values()]) if tensors else ()
    shaped = zip(tensors.items(), parts, strict=True)
    return {name: part.view(tensor.shape).to(tensor.dtype) for (name, tensor), part in shaped}


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
