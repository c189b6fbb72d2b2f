"""The alternating optimisation of MCFlow and PRFlow: four losses, the prior's weight, and one step on a batch.

Sources: Bernal, arXiv 2104.01482, equations 6 to 9 and section 4; the public code of MCFlow (Richardson et al. 2020).
The losses have one form: (guess, observed, mask) -> (B,), one number an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lacuna.errors import LacunaError
from lacuna.imputers.hyper_laplacian import hyper_laplacian
from lacuna.imputers.mcflow import Guess, MCFlow

RULES = ("fixed", "frozen", "running")
COUPLED = ("clean", "leaky")
DECAY = 0.99
"""Of the running means behind a running weight."""


def unlikely(guess: Guess, observed: Tensor, mask: Tensor) -> Tensor:
    """J1 (equation 7): -log p of the guess under the flow, in nats."""
    return -guess.log_prob


def unfaithful(guess: Guess, observed: Tensor, mask: Tensor) -> Tensor:
    """J2 (equation 8): the squared errors of observed values, summed over the image as in MCFlow's code."""
    return torch.where(mask, guess.image - observed, 0).square().flatten(1).sum(1)


def rough(guess: Guess, observed: Tensor, mask: Tensor, alpha: float = 1 / 3, eps: float = 1 / 255) -> Tensor:
    """J3 (equation 9, with the sign of a penalty): the hyper-Laplacian prior of the guess, observed values and all."""
    return hyper_laplacian(guess.image, alpha, eps)


class PriorWeight(nn.Module):
    """PRFlow's lambda, by one of three rules; kept on the device, and part of the training's state.

    The paper: "a value of lambda that approximately equalizes J1 and lambda J3". J1 is a density's logarithm and
    passes zero, so its magnitude is taken, and at least half a nat a value:
    lambda = weight max(abs(J1), D/2) / J3, with weight 1 for the paper's rule.

    * ``fixed``: lambda = weight.
    * ``frozen``: by that formula from the means over epoch ``warm_up``; 0 until then, never changed later. This is the
      paper's "a value of lambda": one for a training.
    * ``running``: by that formula from running means, all the time, and at most ``largest``. It feeds on itself: what
      lowers J3 raises lambda, which lowers J3.

    Args:
        spec: ``rule``, ``weight``, ``warm_up`` (epochs), ``largest``.
        size: D, values of an image.

    Raises:
        LacunaError: a value that means nothing.
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
        hyper_laplacian(torch.zeros(1, 1, 2, 2), spec["alpha"], spec["eps"])  # refuses what it cannot take
        self.value = torch.tensor(float(self.weight) if self.rule == "fixed" else 0.0)
        self._means: Tensor | None = None  # running means of |J1| and J3

    @property
    def used(self) -> bool:
        """Whether there is a prior at all."""
        return bool(self.weight > 0)

    def step(self, unlikely: Tensor, rough: Tensor) -> Tensor:
        """Lambda of this batch, a scalar on the device, given the batch's means of J1 and J3; never waits for it."""
        if self.value.device != rough.device:
            self.value = self.value.to(rough.device)
        if self.rule == "running":
            now = torch.stack([unlikely.detach().float(), rough.detach().float()])
            self._means = now if self._means is None else torch.lerp(self._means, now, 1 - DECAY)
            self.value = self._equal(self._means[0], self._means[1]).clamp(max=self.largest)
        return self.value

    def end_epoch(self, epochs: int, unlikely: float, rough: float) -> None:
        """After ``epochs`` epochs; given the means of J1 and J3 over the last one."""
        if self.rule == "frozen" and epochs == self.warm_up:
            frozen = self._equal(torch.tensor(unlikely), torch.tensor(rough)).clamp(max=self.largest)
            self.value = frozen.float().to(self.value.device)

    def _equal(self, unlikely: Tensor, rough: Tensor) -> Tensor:
        found: Tensor = self.weight * unlikely.abs().clamp(min=0.5 * self.size) / rough.clamp(min=1e-6)
        return found

    def training_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"value": self.value, "means": self._means}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`training_state` gave."""
        self.value, self._means = state["value"], state["means"]


class Alternation(nn.Module):
    """One step on a batch: H learns with G as it is, and G with the imputed images as they are.

    Both take their gradients at the same weights, so that one pass through G serves both, and no second pass is needed
    for J1 (see :meth:`lacuna.flows.normal.NormalFlow.decode`).

    ``clean``: the equations; H's losses change H only. ``leaky``: what the released code does where it runs: the
    gradient of H's losses also reaches G, whose next step adds it.

    With ``noise`` (ours; a standard deviation, of images in [0, 1]) what enters G is blurred by so much, that its
    density may not grow without end where pixels are always the same; J2 compares with the values observed.

    Args:
        spec: ``coupled``, ``known_weight`` (of J2, beside J1, both an image's mean over the batch; 64 as published: the
            released code adds J2's sum over a batch of 64 to J1's mean), ``noise``, ``prior``.
        size: values of an image.

    Raises:
        LacunaError: a value that means nothing.
    """

    def __init__(self, spec: Mapping[str, Any], size: int) -> None:
        super().__init__()
        self.coupled, self.known_weight = spec["coupled"], spec["known_weight"]
        if self.coupled not in COUPLED:
            raise LacunaError(f"imputer.training.coupled={self.coupled!r} is neither {' nor '.join(COUPLED)}.")
        if not (isinstance(self.known_weight, int | float) and 0 < self.known_weight < math.inf):
            raise LacunaError(f"imputer.training.known_weight={self.known_weight} must be a number above 0.")
        self.noise = spec["noise"]
        if isinstance(self.noise, bool) or not (isinstance(self.noise, int | float) and 0 <= self.noise < math.inf):
            raise LacunaError(f"imputer.training.noise={self.noise} must be a number of at least 0.")
        self.prior = PriorWeight(spec["prior"], size)
        self._shape = {key: spec["prior"][key] for key in ("alpha", "eps")}
        self._leaked: list[Tensor] | None = None  # what H's losses left in G's gradients after the last batch

    def step(
        self, model: MCFlow, x: Tensor, observed: Tensor, mask: Tensor, flow_optimizer: Any, net_optimizer: Any
    ) -> dict[str, Tensor]:
        """Update H and G; the batch's means of J, J1, J2 and (with a prior) J3, detached, on the device.

        Args:
            model: G and H.
            x: (B,C,H,W) the imputed images.
            observed, mask: as for :meth:`MCFlow.impute`.
            flow_optimizer, net_optimizer: of G and of H.
        """
        leaky = self.coupled == "leaky"
        z, log_prob = model.flow.encode(x + self.noise * torch.randn_like(x) if self.noise else x)
        model.flow.requires_grad_(leaky)
        guess = model.decode(z if leaky else z.detach())
        model.flow.requires_grad_(True)
        terms = {"unlikely": unlikely(guess, observed, mask), "unfaithful": unfaithful(guess, observed, mask)}
        if self.prior.used:
            terms["rough"] = rough(guess, observed, mask, **self._shape)
        means = {name: term.mean() for name, term in terms.items()}
        loss = means["unlikely"] + self.known_weight * means["unfaithful"]
        if self.prior.used:
            loss = loss + self.prior.step(means["unlikely"], means["rough"]) * means["rough"]
        loss.backward(retain_graph=leaky)
        if leaky:
            self._pass_on_leak(model.flow)
        nll = -log_prob.mean()
        nll.backward()
        for optimizer in (flow_optimizer, net_optimizer):
            optimizer.step()
            optimizer.zero_grad()
        return {name: value.detach() for name, value in {"nll": nll, **means}.items()}

    def renew(self) -> None:
        """G has been made anew: what had leaked into the old one's gradients is gone."""
        self._leaked = None

    def _pass_on_leak(self, flow: nn.Module) -> None:
        """Put aside what the batch left in G's gradients, and add what the one before did."""
        weights = list(flow.parameters())
        before, self._leaked = self._leaked, [weight.grad for weight in weights if weight.grad is not None]
        for number, weight in enumerate(weights):
            weight.grad = None if before is None else before[number].to(weight.device)

    def training_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"leaked": self._leaked}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`training_state` gave."""
        self._leaked = state["leaked"]
