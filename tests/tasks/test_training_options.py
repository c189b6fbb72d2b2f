"""The optional settings of trainings: each does what its definition says, also recorded, and also after a kill."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Hashable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from lacuna.config.training_options import OPTIMIZERS
from lacuna.data.incomplete import Batch
from lacuna.tasks.base import Task
from lacuna.tasks.classifier import TrainClassifier
from lacuna.tasks.common.learning_rate import share_of_rate
from lacuna.tasks.common.optimizers import CLASSES, Adam, clip_gradients, make_optimizer
from tests.runs.real import contents
from tests.tasks.recorded import assert_replays_are_steps, trained
from tests.tasks.test_recorded_steps import ALTERNATING, COMMON, IMPUTE

ZERO = ("experiment=digits_zero", "net.training.epochs=2", "net.training.batch_size=8")
FULL = tuple(
    f"net.training.{option}"
    for option in ("optimizer=adamw", "weight_decay=0.1", "gradient_clip=0.5", "schedule=cosine", "warmup=0.5")
)
RECORDED = {
    "adamw": (*ZERO, *FULL),
    "sgd": (*ZERO, "net.training.optimizer=sgd", "net.training.momentum=0.9", "net.training.schedule=linear"),
    "rmsprop": (*ZERO, "net.training.optimizer=rmsprop", "net.training.momentum=0.5", "net.training.warmup=1"),
    "nadam": (*ZERO, "net.training.optimizer=nadam", "net.training.gradient_clip_value=1e-3"),
    "radam": (*ZERO, "net.training.optimizer=radam", "net.training.betas=[0.8,0.99]", "net.training.limit_batches=9"),
    "double": (*ZERO, "precision=64-true", "net.training.gradient_clip=0.5"),
    "two groups": (
        "experiment=digits_wae",
        "stem=zero",
        "features=none",
        *ZERO[1:],
        *FULL,
        "net.training.limit_batches=6",
    ),
    "two optimisers": (
        *ALTERNATING,
        "imputer.training.gradients=leaky",
        "imputer.training.optimizer=adamw",
        "imputer.training.gradient_clip=1",
        "imputer.training.schedule=cosine",
    ),
    "adversarial": (
        *IMPUTE,
        "imputer=misgan_digits",
        "imputer.training.epochs=2",
        "imputer.training.batch_size=8",
        "imputer.training.gradient_clip=1",
        "imputer.training.schedule=linear",
        "imputer.training.warmup=0.5",
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_replays_are_steps(name: str, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("nadam", "radam"):  # which refuse capturable=True on the CPU, where nothing is captured
        found = sys.modules[f"torch.optim.{module}"]
        monkeypatch.setattr(found, "_get_capturable_supported_devices", lambda *_, **__: ["cpu"])
    assert_replays_are_steps(monkeypatch, digits_root, tmp_path, *RECORDED[name], *COMMON)


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


@pytest.mark.parametrize("name", ["adamw", "sgd", "double"])
def test_a_killed_run_ends_as_an_unbroken_one(
    name: str, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all options; killed in the middle of the second epoch."""
    words = (*RECORDED[name], *COMMON, "trainer.checkpoint_seconds=0")
    whole = contents(trained(digits_root, tmp_path / "whole", *words).path)
    calls, original = [0], TrainClassifier.step

    def mortal(self: TrainClassifier, batch: Batch, kind: Hashable) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 20:
            raise Killed
        return original(self, batch, kind)

    with monkeypatch.context() as patch:
        patch.setattr(TrainClassifier, "step", mortal)
        patch.setattr("lacuna.tasks.common.stepping.CHUNK_SECONDS", 0.0)
        with pytest.raises(Killed):
            trained(digits_root, tmp_path / "cut", *words)
    assert contents(trained(digits_root, tmp_path / "cut", *words).path) == whole


def test_rates_of_a_run_are_those_of_the_formula(
    digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warm-up over half an epoch of 13 batches, then half a cosine to 0: what the optimiser has at every step."""
    rates: list[float] = []
    original = TrainClassifier.update

    def update(self: Task, optimizer: torch.optim.Optimizer) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        original(self, optimizer)

    monkeypatch.setattr(TrainClassifier, "update", update)
    trained(digits_root, tmp_path, *ZERO, *FULL, *COMMON)
    steps, warmup, lr = 26, 6.5, 1e-3
    expected = [
        lr * ((t + 1) / warmup if t < 6 else (1 + math.cos(math.pi * max(0, t - warmup) / (steps - warmup))) / 2)
        for t in range(steps)
    ]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_schedules() -> None:
    for name, half in (("cosine", 0.5), ("linear", 0.5), (None, 1.0)):
        training = {"epochs": 10, "schedule": name, "warmup": 2}
        shares = [share_of_rate(training, step, 5) for step in range(50)]
        assert shares[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
        assert shares[10] == 1 and shares[30] == pytest.approx(half)
        assert all(one >= other for one, other in pairwise(shares[10:])) and shares[-1] > 0
    assert [share_of_rate({"epochs": 3}, step, 5) for step in range(15)] == [1.0] * 15


def gradients(weights: list[nn.Parameter], seed: int = 0) -> None:
    noise = torch.Generator().manual_seed(seed)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=noise, dtype=weight.dtype)


def made() -> list[nn.Parameter]:
    noise = torch.Generator().manual_seed(7)
    return [nn.Parameter(torch.randn(shape, generator=noise, dtype=torch.float64)) for shape in ((3, 4), (5,), (2, 2))]


@pytest.mark.parametrize("most", [0.1, 3.0, 1e3])
def test_a_clipped_gradient_has_the_smaller_norm_and_its_direction(most: float) -> None:
    weights = made()
    gradients(weights)
    before = torch.cat([weight.grad.flatten() for weight in weights]).clone()  # type: ignore[union-attr]
    clip_gradients(torch.optim.SGD(weights, lr=1.0), most, None)
    after = torch.cat([weight.grad.flatten() for weight in weights])  # type: ignore[union-attr]
    norm = math.sqrt(math.fsum(float(value) ** 2 for value in before))
    assert math.sqrt(math.fsum(float(value) ** 2 for value in after)) == pytest.approx(min(norm, most), rel=1e-14)
    torch.testing.assert_close(after / after.norm(), before / before.norm(), rtol=1e-13, atol=0)
    assert (norm > most) or torch.equal(before, after)


def test_values_are_clipped_before_the_norm() -> None:
    weights = made()
    gradients(weights)
    expected = [weight.grad.clamp(-0.5, 0.5) for weight in weights]  # type: ignore[union-attr]
    clip_gradients(torch.optim.SGD(weights, lr=1.0), None, 0.5)
    assert all(torch.equal(weight.grad, value) for weight, value in zip(weights, expected, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_scaled_loss_is_clipped_as_an_unscaled_one(name: str) -> None:
    """Half precision: the GradScaler leaves fused optimisers to divide by its scale."""
    training = {"lr": 0.1, "optimizer": name, "gradient_clip": 0.3, "gradient_clip_value": 1.0}
    plain, scaled = made(), made()
    optimizers = [make_optimizer(training, weights) for weights in (plain, scaled)]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for seed in range(3):
        for weights in (plain, scaled):
            gradients(weights, seed)
        optimizers[0].step()
        scaler.scale(torch.ones(()))
        for weight in scaled:
            assert weight.grad is not None
            weight.grad.mul_(1024)
        scaler.step(optimizers[1])
        scaler.update()
    for one, other in zip(plain, scaled, strict=True):
        torch.testing.assert_close(one, other)


def test_weight_decay_of_adamw_is_decoupled() -> None:
    """w <- (1 - lr decay) w - Adam's update of the gradient alone; step by step in closed form."""
    weights, lr, decay, (b1, b2) = made(), 0.05, 0.2, (0.8, 0.95)
    training = {"lr": lr, "optimizer": "adamw", "weight_decay": decay, "betas": [b1, b2]}
    optimizer = make_optimizer(training, weights)
    expected = [weight.detach().clone() for weight in weights]
    first, second = ([torch.zeros_like(value) for value in expected] for _ in range(2))
    for step in range(1, 5):
        gradients(weights, step)
        for i, weight in enumerate(weights):
            assert weight.grad is not None
            first[i] = b1 * first[i] + (1 - b1) * weight.grad
            second[i] = b2 * second[i] + (1 - b2) * weight.grad**2
            update = first[i] / (1 - b1**step) / ((second[i] / (1 - b2**step)).sqrt() + 1e-8)
            expected[i] = (1 - lr * decay) * expected[i] - lr * update
        optimizer.step()
    for weight, value in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), value, rtol=1e-10, atol=1e-12)


def test_momentum_and_weight_decay_of_sgd() -> None:
    weights = made()
    optimizer = make_optimizer({"lr": 0.1, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01}, weights)
    expected, velocity = [w.detach().clone() for w in weights], [torch.zeros_like(w) for w in weights]
    for step in range(4):
        gradients(weights, step)
        for i, weight in enumerate(weights):
            assert weight.grad is not None
            velocity[i] = 0.9 * velocity[i] + weight.grad + 0.01 * expected[i]
            expected[i] = expected[i] - 0.1 * velocity[i]
        optimizer.step()
    for weight, value in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "weight_decay": 0.1}])
def test_rmsprop_is_that_of_torch(options: dict[str, float]) -> None:
    weights, expected = made(), made()
    optimizer = make_optimizer({"lr": 0.1, "optimizer": "rmsprop", **options}, weights)
    other = torch.optim.RMSprop(expected, lr=0.1, **options)  # type: ignore[arg-type]
    for step in range(4):
        gradients(weights, step)
        gradients(expected, step)
        optimizer.step()
        other.step()
    for weight, value in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight, value, rtol=1e-12, atol=1e-12)


def test_by_default_the_optimiser_is_adam_alone() -> None:
    assert set(CLASSES) == set(OPTIMIZERS)
    optimizer = make_optimizer({"lr": 0.1}, made())
    assert type(optimizer) is Adam and not optimizer._optimizer_step_pre_hooks
    assert optimizer.defaults == Adam(made(), lr=0.1).defaults
    assert copy.deepcopy(optimizer.state_dict()) == Adam(made(), lr=0.1).state_dict()
