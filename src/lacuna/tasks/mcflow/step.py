"""The alternating optimisation of MCFlow and PRFlow: the losses, the weight of the prior, and one training step.

Sources: Bernal, arXiv 2104.01482, equations 6 to 9 and section 4; the public code of MCFlow (Richardson et al. 2020).

Symbols of the papers: G is the flow, H the network between its latent values, x̂ = G⁻¹(H(G(x))) the reconstruction of
an imputed image x. G lowers J = -log p(x) (equation 6). H lowers J1 + J2 + lambda J3 of x̂ (equations 7 to 9): the
functions :func:`nll`, :func:`reconstruction` and :func:`prior`, each (x̂, observed, mask) -> (B,), one number an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.errors import LacunaError
from lacuna.imputers.mcflow import MCFlow, Reconstruction
from lacuna.tasks.mcflow.hyper_laplacian import hyper_laplacian

RULES = ("fixed", "frozen", "running")
GRADIENTS = ("clean", "leaky")
DECAY = 0.99
"""Decay of the exponential means behind a running weight."""


def nll(output: Reconstruction, observed: Tensor, mask: Tensor) -> Tensor:
    """J1 (equation 7): -log p of the reconstruction under the flow, in nats."""
    return -output.log_prob


def reconstruction(output: Reconstruction, observed: Tensor, mask: Tensor) -> Tensor:
    """J2 (equation 8): the squared errors at observed values, summed over the image as in MCFlow's code."""
    return torch.where(mask, output.image - observed, 0).square().flatten(1).sum(1)


def prior(output: Reconstruction, observed: Tensor, mask: Tensor, alpha: float = 1 / 3, eps: float = 1 / 255) -> Tensor:
    """J3 (equation 9, as a penalty): the hyper-Laplacian prior of the whole reconstruction."""
    return hyper_laplacian(output.image, alpha, eps)


class PriorWeight(nn.Module):
    """PRFlow's lambda, the weight of the prior, by one of three rules. Kept on the device; part of the training state.

    The paper: "a value of lambda that approximately equalizes J1 and lambda J3". J1 is minus a log-density and can pass
    through zero, so its magnitude is used, and at least half a nat a value:
    lambda = weight max(abs(J1), D/2) / J3, with weight 1 for the paper's rule.

    * ``fixed``: lambda = weight.
    * ``frozen``: the formula with the means over epoch ``warm_up``; 0 until then, constant afterwards, at most
      ``largest``. This is the paper's "a value of lambda": one for a training.
    * ``running``: the formula with running means, all the time, at most ``largest``. It feeds on itself: what lowers J3
      raises lambda, which lowers J3.

    Args:
        spec: ``rule``, ``weight``, ``warm_up`` (epochs), ``largest``, and ``alpha``, ``eps`` of the prior.
        size: D, values of an image.

    Raises:
        LacunaError: a value is out of its range.
    """

    def __init__(self, spec: Mapping[str, Any], size: int) -> None:
        super().__init__()
        self.rule, self.weight, self.largest = spec["rule"], spec["weight"], spec["largest"]
        self.warm_up, self.size = spec["warm_up"], size
        if self.rule not in RULES:
            raise LacunaError(f"imputer.training.prior.rule={self.rule!r} is none of {', '.join(RULES)}.")
        for name, least in (("weight", 0), ("largest", 0), ("warm_up", 1)):
            value = spec[name]
            if isinstance(value, bool) or not (isinstance(value, int | float) and least <= value < math.inf):
                raise LacunaError(f"imputer.training.prior.{name}={value} must be a number of at least {least}.")
        hyper_laplacian(torch.zeros(1, 1, 2, 2), spec["alpha"], spec["eps"])  # raises for values out of range
        self.value = torch.tensor(float(self.weight) if self.rule == "fixed" else 0.0)
        # running means of |J1| and J3; as the value they stay the same tensor, for recorded steps
        self._means: Tensor | None = None

    @property
    def used(self) -> bool:
        """Whether there is a prior at all."""
        return bool(self.weight > 0)

    def step(self, nll: Tensor, prior: Tensor) -> Tensor:
        """Lambda of this batch, a scalar on the device, from the batch means of J1 and J3; no synchronisation."""
        if self.value.device != prior.device:
            self.value = self.value.to(prior.device)
        if self.rule == "running":
            now = torch.stack([nll.detach().float(), prior.detach().float()])
            if self._means is None:
                self._means = now
            else:
                self._means.lerp_(now, 1 - DECAY)
            self.value.copy_(self._equalising(self._means[0], self._means[1]).clamp(max=self.largest))
        return self.value

    def end_epoch(self, epochs: int, nll: float, prior: float) -> None:
        """Called after ``epochs`` epochs with the means of J1 and J3 over the last one."""
        if self.rule == "frozen" and epochs == self.warm_up:
            frozen = self._equalising(torch.tensor(nll), torch.tensor(prior)).clamp(max=self.largest)
            self.value.copy_(frozen)

    def _equalising(self, nll: Tensor, prior: Tensor) -> Tensor:
        ratio: Tensor = self.weight * nll.abs().clamp(min=0.5 * self.size) / prior.clamp(min=1e-6)
        return ratio

    def training_state(self) -> dict[str, Any]:
        """The state that a checkpoint keeps."""
        return {"value": self.value, "means": self._means}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""
        self.value = state["value"].clone()
        self._means = None if state["means"] is None else state["means"].clone()


class AlternatingStep(nn.Module):
    """One training step on a batch: H learns while G is held fixed, G learns while the imputed images are held fixed.

    Both gradients are taken at the same weights, so that one forward pass through G serves both, and J1 needs no second
    pass (see :meth:`lacuna.flows.normal.NormalFlow.decode`).

    ``gradients``: ``clean`` follows the equations: H's losses change H only. ``leaky`` does what the released code does
    in versions of PyTorch in which it runs: H's losses also leave a gradient in G, which G's next step adds.

    With ``noise`` (ours), Gaussian noise of that standard deviation is added to the images (in [0, 1]) that enter G:
    else the density grows without bound at pixels that are always the same. J2 still compares with the observed values.

    Args:
        spec: ``gradients``; ``reconstruction_weight``, of J2 beside J1, both being means over the batch (64 as
            published: the released code adds J2's sum over a batch of 64 to J1's mean); ``noise``; ``prior``.
        size: values of an image.

    Raises:
        LacunaError: a value is out of its range.
    """

    def __init__(self, spec: Mapping[str, Any], size: int) -> None:
        super().__init__()
        self.gradients, self.reconstruction_weight = spec["gradients"], spec["reconstruction_weight"]
        if self.gradients not in GRADIENTS:
            raise LacunaError(f"imputer.training.gradients={self.gradients!r} is neither {' nor '.join(GRADIENTS)}.")
        weight = self.reconstruction_weight
        if not (isinstance(weight, int | float) and 0 < weight < math.inf):
            raise LacunaError(f"imputer.training.reconstruction_weight={weight} must be a number above 0.")
        self.noise = spec["noise"]
        if isinstance(self.noise, bool) or not (isinstance(self.noise, int | float) and 0 <= self.noise < math.inf):
            raise LacunaError(f"imputer.training.noise={self.noise} must be a number of at least 0.")
        self.prior = PriorWeight(spec["prior"], size)
        self._prior_shape = {key: spec["prior"][key] for key in ("alpha", "eps")}
        self._leaked: list[Tensor] | None = None  # gradients that H's losses left in G after the last batch

    def step(
        self, model: MCFlow, x: Tensor, observed: Tensor, mask: Tensor, flow_optimizer: Any, net_optimizer: Any
    ) -> dict[str, Tensor]:
        """Update H and G on a batch.

        Args:
            model: G and H.
            x: (B,C,H,W) the imputed images.
            observed, mask: as for :meth:`MCFlow.impute`.
            flow_optimizer, net_optimizer: of G and of H.

        Returns:
            Batch means, detached, on the device: ``flow_nll`` (J), ``nll`` (J1), ``reconstruction`` (J2) and, with a
            prior, ``prior`` (J3).
        """
        leaky = self.gradients == "leaky"
        z, log_prob = model.flow.encode(x + self.noise * torch.randn_like(x) if self.noise else x)
        model.flow.requires_grad_(leaky)
        output = model.decode(z if leaky else z.detach())
        model.flow.requires_grad_(True)
        terms = {"nll": nll(output, observed, mask), "reconstruction": reconstruction(output, observed, mask)}
        if self.prior.used:
            terms["prior"] = prior(output, observed, mask, **self._prior_shape)
        means = {name: term.mean() for name, term in terms.items()}
        loss = means["nll"] + self.reconstruction_weight * means["reconstruction"]
        if self.prior.used:
            loss = loss + self.prior.step(means["nll"], means["prior"]) * means["prior"]
        loss.backward(retain_graph=leaky)
        if leaky:
            self._exchange_leaked_gradients(model.flow)
        flow_nll = -log_prob.mean()
        flow_nll.backward()
        for optimizer in (flow_optimizer, net_optimizer):
            optimizer.step()
            optimizer.zero_grad()
        return {name: value.detach() for name, value in {"flow_nll": flow_nll, **means}.items()}

    def discard_leaked_gradients(self) -> None:
        """Forget the gradients that leaked into G; to be called when G has been reset."""
        self._leaked = None

    def _exchange_leaked_gradients(self, flow: nn.Module) -> None:
        """Keep the gradients that this batch left in G for later, and put those of the batch before in their place."""
        weights = list(flow.parameters())
        # 0 before the first batch; always the same tensors, for recorded steps
        kept = [torch.zeros_like(weight) for weight in weights] if self._leaked is None else self._leaked
        self._leaked = [gradient.to(weight.device) for gradient, weight in zip(kept, weights, strict=True)]
        for gradient, weight in zip(self._leaked, weights, strict=True):
            now = torch.zeros_like(weight) if weight.grad is None else weight.grad
            weight.grad = gradient.clone()
            gradient.copy_(now)

    def training_state(self) -> dict[str, Any]:
        """The state that a checkpoint keeps."""
        return {"leaked": self._leaked}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""
        self._leaked = state["leaked"]
