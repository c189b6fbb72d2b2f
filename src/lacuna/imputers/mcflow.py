"""MCFlow and PRFlow: imputation with a normalising flow and a network that maps its latent values.

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
INITIAL = {"type": "nearest.RingNearest"}
REPLAYS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "none": None}


class Reconstruction(NamedTuple):
    """The networks' output x̂ = G⁻¹(H(G(x))), not clipped and without the observed pixels put back.

    Attributes:
        image: (B,C,H,W), any real values.
        log_prob: (B,), log p(image) under G, in nats.
    """

    image: Tensor
    log_prob: Tensor


class MCFlow(Imputer):
    """A flow G and a network H, the latent map, between its latent values; both fully connected as published.

    Imputation begins with a simple imputer. Each *stage* then replaces an image x by x̂ = G⁻¹(H(G(x))), clipped to
    [0, 1], with the observed pixels put back. Training alternates with these stages: when all training images have been
    imputed anew, G is reset and a new stage begins. A new image therefore passes through all stages in order, each with
    the G and H of that time, as the published code does with its test images; the current networks are the last stage.
    The weights of earlier stages are kept (``replay``). Without them only the last stage is applied.

    Args:
        shape: (C, H, W) of the images.
        flow: spec of G, a :class:`lacuna.flows.normal.NormalFlow`; by default MCFlow's RealNVP, as wide as the image.
        net: spec of H (``nets/latent_net.py``); by default MCFlow's, four hidden layers as wide as the image.
        initial: spec of the imputer of the initial imputation, one that needs no fit; by default MCFlow's.
        replay: how the weights of earlier stages are kept: ``float32``, ``bfloat16`` or ``none``.
        inference_passes: how often the last stage is applied.

    Raises:
        LacunaError: a value is out of its range, or a spec is of another kind.
    """

    stages: Tensor
    coupling_masks: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        flow: Mapping[str, Any] | None = None,
        net: Mapping[str, Any] | None = None,
        initial: Mapping[str, Any] | None = None,
        replay: str = "float32",
        inference_passes: int = 1,
    ) -> None:
        super().__init__()
        check_count("imputer.inference_passes", inference_passes)
        if replay not in REPLAYS:
            raise LacunaError(f"imputer.replay={replay!r} is none of {', '.join(REPLAYS)}.")
        self.shape, self.inference_passes, self.replay = tuple(shape), inference_passes, replay
        self._flow_spec = flow or FLOW
        self.flow = self._new_flow()
        self.net: nn.Module = registry.build("net", net or NET, shape=self.shape)
        self.initial: Imputer = registry.build("imputer", initial or INITIAL)
        if self.initial.needs_fit:
            raise LacunaError(
                f"imputer.initial.type={type(self.initial).__name__} must be fitted first: choose one that needs no "
                "fit, such as nearest.RingNearest."
            )
        weights = sum(weight.numel() for weight in self._weights())
        masks = sum(mask.numel() for mask in self._masks().values())
        kept = REPLAYS[replay] or torch.float32
        # Earlier stages, one a row: all weights of G and H, and the random coupling masks of G.
        self.register_buffer("stages", torch.empty(0, weights, dtype=kept))
        self.register_buffer("coupling_masks", torch.empty(0, masks, dtype=torch.bool))

    def _new_flow(self) -> NormalFlow:
        made: NormalFlow = registry.build("flow", self._flow_spec, shape=self.shape)
        if not isinstance(made, NormalFlow):
            raise LacunaError(
                f"imputer.flow.type={self._flow_spec['type']} is no flow of whole images; {FLOW['type']} is one."
            )
        return made

    # ------------------------------------------------------------------ one stage

    def initial_imputation(self, observed: Tensor, mask: Tensor) -> Tensor:
        """The images (B,C,H,W) before the first stage; arguments as for :meth:`impute`."""
        return self.initial.impute(observed, mask)

    def reconstruct(self, x: Tensor) -> Reconstruction:
        """x̂ = G⁻¹(H(G(x))) of imputed images (B,C,H,W)."""
        return self.decode(self.flow.encode(x)[0])

    def decode(self, z: Tensor) -> Reconstruction:
        """G⁻¹(H(z)) of latent values (B,C,H,W). The inverse pass also yields the log-density of its result."""
        return Reconstruction(*self.flow.decode(self.latent_map(z)))

    def latent_map(self, z: Tensor) -> Tensor:
        """H(z), (B,C,H,W)."""
        mapped: Tensor = self.net(z)
        return mapped

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the two passes of training, ``flow.encode`` and :meth:`decode`; neither is a ``forward``.

        Imputation, which also runs with the weights of earlier stages, stays eager.
        """
        # leaky training runs two backward passes through one graph, so its buffers must survive the first
        functorch_config.donated_buffer = False
        for owner, name in ((self.flow, "encode"), (self, "decode")):
            setattr(owner, name, _compiled_in_training(owner, getattr(owner, name), args, kwargs))

    @torch.no_grad()
    def advance(self, x: Tensor, observed: Tensor, mask: Tensor) -> Tensor:
        """Imputed images (B,C,H,W) after one more stage: reconstructed, clipped to [0, 1], observed pixels put back."""
        return torch.where(mask, observed, self.reconstruct(x).image.to(x.dtype).clamp(0, 1))

    # ------------------------------------------------------------------ from stage to stage

    @torch.no_grad()
    def end_stage(self, *, reset_flow: bool = True) -> None:
        """Keep the current networks as an earlier stage and initialise G anew, in the same tensors.

        New weights and coupling masks come from torch's global generator.

        Args:
            reset_flow: False leaves G as it is.
        """
        if self.replays:
            flat = torch.cat([weight.detach().flatten().to(self.stages.dtype) for weight in self._weights()])
            self.stages = torch.cat([self.stages, flat[None]])
            masks = [mask.flatten() for mask in self._masks().values()]
            row = torch.cat([self.coupling_masks.new_empty(0), *masks])
            self.coupling_masks = torch.cat([self.coupling_masks, row[None]])
        if reset_flow:
            fresh = self._new_flow().state_dict()
            for name, tensor in self.flow.state_dict().items():
                tensor.copy_(fresh[name])

    def _impute(self, observed: Tensor, mask: Tensor) -> Tensor:
        x = self.initial_imputation(observed, mask)
        for number in range(len(self.stages)):
            stage = functional_call(_Stage(self), self._networks(number), (x,))
            x = torch.where(mask, observed, stage.clamp(0, 1))
        return self.current_stage(x, observed, mask)

    def current_stage(self, x: Tensor, observed: Tensor, mask: Tensor) -> Tensor:
        """Apply the last stage, that of the current networks, to images (B,C,H,W) that have passed all earlier ones."""
        for _ in range(self.inference_passes):
            x = self.advance(x, observed, mask)
        return x

    def _networks(self, number: int) -> dict[str, Tensor]:
        """Parameters and coupling masks of an earlier stage, by name."""
        found: dict[str, Tensor] = {}
        for prefix, network in (("flow", self.flow), ("net", self.net)):
            found |= {f"owner.{prefix}.{name}": weight for name, weight in network.named_parameters()}
        found = _unflattened(self.stages[number], found)
        masks = {f"owner.flow.{name}": mask for name, mask in self._masks().items()}
        return found | _unflattened(self.coupling_masks[number], masks)

    def _weights(self) -> Iterator[Tensor]:
        yield from self.flow.parameters()
        yield from self.net.parameters()

    def _masks(self) -> dict[str, Tensor]:
        """The coupling masks of G, by name; none where they are not random."""
        return {name: buffer for name, buffer in self.flow.named_buffers() if buffer.dtype == torch.bool}

    @property
    def replays(self) -> bool:
        """Whether new images pass through all earlier stages."""
        return REPLAYS[self.replay] is not None

    @property
    def size(self) -> int:
        """Number of values of an image."""
        return math.prod(self.shape)


def _unflattened(flat: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values of ``flat`` cut into the shapes and types of ``tensors``, in their order."""
    parts = flat.split([tensor.numel() for tensor in tensors.values()]) if tensors else ()
    shaped = zip(tensors.items(), parts, strict=True)
    return {name: part.view(tensor.shape).to(tensor.dtype) for (name, tensor), part in shaped}


def _compiled_in_training(
    owner: nn.Module, plain: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[..., Any]:
    """The method ``plain`` of ``owner``, compiled while ``owner`` is in training mode and eager otherwise."""
    compiled = torch.compile(plain, *args, **kwargs)

    def method(*given: Any) -> Any:
        return (compiled if owner.training else plain)(*given)

    return method


class _Stage(nn.Module):
    """x -> x̂ as a forward method, so that ``functional_call`` can run it with other weights."""

    def __init__(self, owner: MCFlow) -> None:
        super().__init__()
        self.owner = owner

    def forward(self, x: Tensor) -> Tensor:
        return self.owner.reconstruct(x).image
