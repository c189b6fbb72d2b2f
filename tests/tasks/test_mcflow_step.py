"""MCFlow's step on a batch: gradients against the printed losses, leaked gradients, number of passes, lambda."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._functorch import config as functorch_config

from lacuna.errors import LacunaError
from lacuna.imputers.mcflow import MCFlow, Reconstruction
from lacuna.tasks.mcflow.step import AlternatingStep, PriorWeight, nll, prior, reconstruction

SHAPE = (2, 3, 4)
PRIOR = {"rule": "fixed", "weight": 0.75, "warm_up": 1, "largest": 20.0, "alpha": 1 / 3, "eps": 1 / 255}


def model(seed: int = 0, couplings: int = 6) -> MCFlow:
    torch.manual_seed(seed)
    flow = {"type": "realnvp.RealNVP", "couplings": couplings, "widths": [9]}
    net = {"type": "latent_net.DenseLatent", "widths": [8, 8]}
    return MCFlow(SHAPE, flow=flow, net=net).double()


def batch(seed: int, n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Imputed images, their observed pixels and masks."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, *SHAPE, dtype=torch.float64, generator=generator)
    mask = torch.rand(n, 1, *SHAPE[1:], generator=generator) > 0.6
    return x, torch.where(mask, x, 0), mask


def alternating(gradients: str = "clean", noise: float = 0.0, **changes: Any) -> AlternatingStep:
    spec = {"gradients": gradients, "reconstruction_weight": 64.0, "noise": noise, "prior": {**PRIOR, **changes}}
    return AlternatingStep(spec, math.prod(SHAPE))


class Recorder:
    """An optimiser that changes nothing and records the gradients."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network, self.seen = network, []

    def step(self) -> None:
        grads = [weight.grad for weight in self.network.parameters()]
        self.seen.append(
            [torch.zeros_like(w) if g is None else g.clone() for g, w in zip(grads, self.weights, strict=True)]
        )

    @property
    def weights(self) -> list[Tensor]:
        return list(self.network.parameters())

    def zero_grad(self) -> None:
        for weight in self.weights:
            weight.grad = None


def losses(net: MCFlow, x: Tensor, observed: Tensor, mask: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """J, and J1 + J2 + lambda J3, with two more passes and every formula spelt out."""
    constant = 0.5 * math.prod(SHAPE) * math.log(2 * math.pi)

    def j(image: Tensor) -> Tensor:
        z, log_det = net.flow(image)
        return (0.5 * z.flatten(1).square().sum(1) + constant - log_det).mean()

    z = net.flow(x)[0]
    output = net.flow.inverse(net.net(z))[0]
    j2 = 64 * ((output - observed) * mask).square().sum() / len(x)
    smooth = [(d**2 + 1 / 255**2) ** (1 / 6) - 255 ** (-1 / 3) for d in (output.diff(dim=2), output.diff(dim=3))]
    j3 = sum(term.sum() for term in smooth) / len(x)
    return j(x), j(output) + j2 + weight * j3


def assert_gradients(found: list[Tensor], expected: list[Tensor] | tuple[Tensor, ...]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("weight", [0.0, 0.75])
def test_clean_steps_take_the_gradients_of_the_equations(weight: float) -> None:
    net, (x, observed, mask) = model(), batch(1)
    recorders = Recorder(net.flow), Recorder(net.net)
    step, before = alternating(weight=weight), copy.deepcopy(net.state_dict())
    for _ in range(2):  # nothing is left over from the first for the second
        terms = step.step(net, x, observed, mask, *recorders)
    j, h = losses(net, x, observed, mask, weight)
    for k in range(2):
        assert_gradients(recorders[0].seen[k], torch.autograd.grad(j, recorders[0].weights, retain_graph=True))
        assert_gradients(recorders[1].seen[k], torch.autograd.grad(h, recorders[1].weights, retain_graph=True))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in net.parameters())
    torch.testing.assert_close(terms["flow_nll"], j.detach())
    total = terms["nll"] + 64 * terms["reconstruction"] + weight * terms.get("prior", torch.zeros(()))
    torch.testing.assert_close(total, h.detach())
    assert ("prior" in terms) == (weight > 0)


def test_the_networks_losses_do_not_change_the_flow() -> None:
    """If G's optimiser does nothing, H's steps leave G bit-identical."""
    net, (x, observed, mask) = model(), batch(1)
    before = [weight.clone() for weight in net.flow.parameters()]
    step = alternating()
    for _ in range(3):
        step.step(net, x, observed, mask, Recorder(net.flow), torch.optim.Adam(net.net.parameters(), 0.1))
    assert all(torch.equal(a, b) for a, b in zip(before, net.flow.parameters(), strict=True))


def test_leaky_steps_add_the_gradients_of_the_batch_before() -> None:
    net = model()
    recorders = Recorder(net.flow), Recorder(net.net)
    step = alternating("leaky")
    leaked = [torch.zeros_like(weight) for weight in net.flow.parameters()]
    for number in range(3):
        if number == 2:  # as after a resume
            state, step = step.training_state(), alternating("leaky")
            step.load_training_state(state)
        x, observed, mask = batch(number)
        step.step(net, x, observed, mask, *recorders)
        j, h = losses(net, x, observed, mask, 0.75)
        grads = torch.autograd.grad(j, recorders[0].weights, retain_graph=True)
        assert_gradients(recorders[0].seen[number], [a + b for a, b in zip(grads, leaked, strict=True)])
        assert_gradients(recorders[1].seen[number], torch.autograd.grad(h, recorders[1].weights, retain_graph=True))
        leaked = list(torch.autograd.grad(h, recorders[0].weights))
    step.discard_leaked_gradients()
    x, observed, mask = batch(3)
    step.step(net, x, observed, mask, *recorders)
    assert_gradients(
        recorders[0].seen[3], torch.autograd.grad(losses(net, x, observed, mask, 0)[0], recorders[0].weights)
    )


def test_noise_is_added_to_the_flows_input_only() -> None:
    net, (x, observed, mask) = model(), batch(1)
    recorders = Recorder(net.flow), Recorder(net.net)
    torch.manual_seed(3)
    alternating(noise=0.2).step(net, x, observed, mask, *recorders)
    torch.manual_seed(3)
    j, h = losses(net, x + 0.2 * torch.randn_like(x), observed, mask, 0.75)
    assert_gradients(recorders[0].seen[0], torch.autograd.grad(j, recorders[0].weights, retain_graph=True))
    assert_gradients(recorders[1].seen[0], torch.autograd.grad(h, recorders[1].weights))


@pytest.mark.parametrize("gradients", ["clean", "leaky"])
def test_a_step_passes_through_the_flow_twice(gradients: str) -> None:
    """One forward and one inverse pass: J1 costs no further pass."""
    net, calls = model(), [0]
    for coupling in net.flow.couplings:
        coupling.scale.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    alternating(gradients).step(net, *batch(1), Recorder(net.flow), Recorder(net.net))
    assert calls == [2 * 6]


@pytest.mark.slow
@pytest.mark.parametrize("gradients", ["clean", "leaky"])
@functorch_config.patch(donated_buffer=True)  # and again afterwards, whatever compiling sets
def test_compiled_steps_are_the_eager_ones(gradients: str) -> None:
    """Also with a smaller last batch and after a reset of the flow; imputation is not compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    ends = []
    for compiled in (False, True):
        torch.manual_seed(0)
        net = model(couplings=2)
        if compiled:
            net.compile(backend="aot_eager")
        optimizers = [torch.optim.Adam(each.parameters(), 1e-2) for each in (net.flow, net.net)]
        step = alternating(gradients)
        for number, images in enumerate((5, 5, 3, 5)):
            if number == 3:
                net.end_stage()
            step.step(net, *batch(number, images), *optimizers)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        _, observed, mask = batch(9)
        filled = net.eval().impute(observed, mask)
        assert (graphs > 0) == compiled and graphs == torch._dynamo.utils.counters["stats"]["unique_graphs"]
        ends.append([*net.state_dict().values(), filled])
    for eager, other in zip(*ends, strict=True):
        torch.testing.assert_close(other, eager, rtol=1e-9, atol=1e-9)


def test_losses_have_one_form() -> None:
    _, observed, mask = batch(4)
    constant = Reconstruction(torch.full_like(observed, 0.3), torch.arange(5.0, dtype=torch.float64))
    assert torch.equal(nll(constant, observed, mask), -torch.arange(5.0, dtype=torch.float64))
    assert torch.equal(prior(constant, observed, mask), torch.zeros(5, dtype=torch.float64))
    by_hand = [
        sum((0.3 - float(value)) ** 2 for value in image[:, where[0]].flatten())
        for image, where in zip(observed, mask, strict=True)
    ]
    torch.testing.assert_close(reconstruction(constant, observed, mask), torch.tensor(by_hand, dtype=torch.float64))


def test_rules_for_lambda() -> None:
    """D = 24, so that the lower bound of abs(J1) is 12."""
    j1, j3 = torch.tensor(-30.0), torch.tensor(6.0)
    fixed = PriorWeight({**PRIOR, "weight": 0.3}, 24)
    frozen = PriorWeight({**PRIOR, "rule": "frozen", "weight": 0.5, "warm_up": 2}, 24)
    assert float(fixed.step(j1, j3)) == pytest.approx(0.3) and float(frozen.step(j1, j3)) == 0
    for weight in (fixed, frozen):
        weight.end_epoch(1, -30.0, 6.0)
    assert float(frozen.step(j1, j3)) == 0
    frozen.end_epoch(2, -30.0, 6.0)
    assert float(frozen.step(j1, j3)) == pytest.approx(0.5 * 30 / 6)
    frozen.end_epoch(3, -90.0, 1.0)
    assert float(frozen.value) == pytest.approx(2.5) and float(fixed.value) == pytest.approx(0.3)
    low = PriorWeight({**PRIOR, "rule": "frozen", "weight": 1.0}, 24)
    low.end_epoch(1, 0.5, 6.0)
    assert float(low.value) == pytest.approx(12 / 6)
    running = PriorWeight({**PRIOR, "rule": "running", "weight": 1.0}, 24)
    assert float(running.step(j1, j3)) == pytest.approx(5)
    follower = PriorWeight({**PRIOR, "rule": "running", "weight": 1.0}, 24)
    follower.load_training_state(running.training_state())
    for one in (running, follower):
        assert float(one.step(torch.tensor(-130.0), j3)) == pytest.approx((0.99 * 30 + 0.01 * 130) / 6)
    for _ in range(2000):
        running.step(j1, torch.tensor(1e-3))
    assert float(running.value) == 20  # at most


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rule": "adaptive"}, "prior.rule"),
        ({"weight": -1.0}, "prior.weight"),
        ({"warm_up": 0}, "prior.warm_up"),
        ({"alpha": 0.0}, "alpha"),
        ({"eps": 0.0}, "eps"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(LacunaError, match=words):
        alternating(**change)
    with pytest.raises(LacunaError, match="gradients"):
        alternating("loose")
    with pytest.raises(LacunaError, match=r"training\.noise"):
        alternating(noise=-0.1)
