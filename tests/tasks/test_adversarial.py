"""MisGAN and P-BiGAN in training: losses, schedules, resumed runs, no leak of missing values, messages."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from lacuna.runs.folder import RunFolder
from lacuna.runs.settings import Settings
from lacuna.tasks.common import stepping
from lacuna.tasks.common.adversarial import AdversarialTask
from lacuna.tasks.misgan import TrainMisGAN
from lacuna.tasks.pbigan import TrainPBiGAN
from lacuna.training.loading import load, make_task, open_data
from tests.laws.test_no_leak import differences, noise_behind, run_all, tampering, user_file
from tests.runs.real import contents, recipe, train

METHODS = ("misgan", "pbigan")
RUN = (
    "task=impute",
    "features=none",
    "mask=bernoulli",
    "imputer.widths=[16,8]",
    "imputer.latent=4",
    "imputer.training.epochs=2",
    "imputer.training.batch_size=32",
    "imputer.training.critic_steps=2",
    "data.train_images=100",
    "data.validation=100",
    "data.validation_images=20",
    "data.test_images=30",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "trainer.checkpoint_seconds=0",
)


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


def words(root: Path, output: Path, method: str, *more: str) -> tuple[str, ...]:
    return (f"imputer={method}_digits", *RUN, *more, f"data.root={root}", f"output={output}")


def task_of(root: Path, output: Path, method: str, *more: str) -> Any:
    wanted = recipe(*words(root, output, method, *more))
    settings = Settings(output, root, download=False, trainer={"accelerator": "cpu"})
    torch.manual_seed(0)
    task = make_task(wanted, settings, open_data(wanted, settings))
    assert isinstance(task, AdversarialTask)
    return task


def gradients(loss: Tensor, weights: Any) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(weights), retain_graph=True, allow_unused=True)
    return [torch.zeros(()) if gradient is None else gradient for gradient in found]


def assert_alike(one: list[Tensor], other: list[Tensor]) -> None:
    assert max(float(gradient.abs().max()) for gradient in other) > 1e-6
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-7)


# ---------------------------------------------------------------------- who learns from what


def test_each_of_misgan_s_generators_lowers_its_own_loss(digits_root, tmp_path):
    """Against the three losses of the paper (and the authors' gamma), each differentiated alone."""
    chosen = ("alpha=0.3", "beta=0.2", "gamma=0.5")
    task = task_of(digits_root, tmp_path, "misgan", *(f"imputer.training.{word}" for word in chosen))
    model, batch = task.model, task.data.train.batch(torch.arange(20))
    x, mask = batch.observed, batch.mask.float()
    torch.manual_seed(5)
    loss = task.generator_loss(batch)
    torch.manual_seed(5)
    z, e = torch.randn(20, 4), torch.randn(20, 4)
    omega = torch.rand_like(x)
    image = torch.sigmoid(model.data_generator(z))
    made = (1.2 * torch.sigmoid(model.mask_generator(e) / 0.66) - 0.1).clamp(0, 1)
    raw = model.imputer(mask * x + (1 - mask) * omega)
    data = -model.data_critic(made * image + (1 - made) * model.tau).mean()
    imputation = -model.imputer_critic(torch.where(batch.mask, x, raw)).mean()
    losses = {
        model.data_generator: data + 0.2 * model.imputer_critic(image).mean(),
        model.mask_generator: -model.mask_critic(made).mean() + 0.3 * data,
        model.imputer: imputation + 0.5 * (raw - x)[batch.mask].square().mean(),
    }
    for generator, own in losses.items():
        assert_alike(gradients(loss, generator.parameters()), gradients(own, generator.parameters()))


def test_misgan_s_critics_see_the_three_pairs_of_the_paper(digits_root, tmp_path, monkeypatch):
    task = task_of(digits_root, tmp_path, "misgan", "imputer.tau=0.25")
    seen: list[tuple[Any, Tensor, Tensor]] = []

    def losses(critic: Any, real: list[Tensor], fake: list[Tensor]) -> tuple[Tensor, Tensor]:
        seen.append((critic, *real, *fake))
        return real[0].mean(), fake[0].mean()

    monkeypatch.setattr("lacuna.tasks.misgan.critic_losses", losses)
    model, batch = task.model, task.data.train.batch(torch.arange(20))
    torch.manual_seed(5)
    task.critic_loss(batch)
    torch.manual_seed(5)
    image, mask = model.images(torch.randn(20, 4)), model.masks(torch.randn(20, 4))
    (data, shown, faked), (judge, real_mask, made), (third, generated, imputed) = seen
    assert data is model.data_critic and judge is model.mask_critic and third is model.imputer_critic
    assert torch.equal(shown, torch.where(batch.mask, batch.observed, 0.25))
    torch.testing.assert_close(faked, mask * image + (1 - mask) * 0.25)
    assert torch.equal(real_mask, batch.mask.float()) and torch.equal(made, mask) and torch.equal(generated, image)
    assert torch.equal(imputed[batch.mask], batch.observed[batch.mask])
    assert not any(tensor.requires_grad for row in seen for tensor in row[1:])


def test_pbigan_s_encoder_and_decoder_lower_distance_and_reconstruction(digits_root, tmp_path, monkeypatch):
    task = task_of(digits_root, tmp_path, "pbigan", "imputer.training.ramp_from=null")
    model, batch = task.model, task.data.train.batch(torch.arange(20))
    other = task.data.train.batch(torch.arange(20, 40)).mask.float()
    monkeypatch.setattr(TrainPBiGAN, "_other_masks", lambda *_: other)
    torch.manual_seed(5)
    loss = task.generator_loss(batch)
    torch.manual_seed(5)
    code, z = model.encoder(batch.observed, torch.randn(20, 4)), torch.randn(20, 4)
    logits = model.decoder(code)
    errors = cross_entropy(logits[batch.mask], batch.observed[batch.mask], reduction="sum") / 20
    distance = model.critic(batch.observed, code).mean() - model.critic(other * model.decoder(z).sigmoid(), z).mean()
    weights = [*model.encoder.parameters(), *model.decoder.parameters()]
    assert_alike(gradients(loss, weights), gradients(distance + 0.1 * errors, weights))
    logits = torch.randn(batch.observed.shape, requires_grad=True)
    task.training_spec = {**task.training_spec, "reconstruction": "smooth_l1"}
    halves = (logits.sigmoid() - batch.observed)[batch.mask].square().sum() / 40
    torch.testing.assert_close(task._reconstruction(logits, batch), halves)


def test_pbigan_s_fakes_have_masks_of_training_images(digits_root, tmp_path):
    task = task_of(digits_root, tmp_path, "pbigan")
    known = {mask.numpy().tobytes() for mask in task.data.train.batch(torch.arange(100)).mask}
    batch = task.data.train.batch(torch.arange(20))
    drawn = [mask.bool().numpy().tobytes() for mask in task._other_masks(batch)]
    assert set(drawn) <= known and drawn != [mask.numpy().tobytes() for mask in batch.mask]


@pytest.mark.parametrize("method", METHODS)
def test_missing_values_reach_no_loss(method, digits_root, tmp_path):
    task = task_of(digits_root, tmp_path, method, "imputer.training.epochs=1")
    batch = task.data.train.batch(torch.arange(20))
    dark = dataclasses.replace(batch, observed=torch.where(batch.mask, batch.observed, 0))
    for loss in (task.critic_loss, task.generator_loss):
        torch.manual_seed(5)
        expected = loss(batch)
        torch.manual_seed(5)
        assert torch.equal(loss(dark), expected)


# ---------------------------------------------------------------------- when


@pytest.mark.parametrize("method", METHODS)
def test_critics_learn_from_full_batches_and_generators_from_every_second(method, digits_root, tmp_path, monkeypatch):
    """100 images: three batches of 32 an epoch, two epochs; networks that do not learn stay bit-identical."""
    original, seen = AdversarialTask.step, []

    def weights(task: Any) -> tuple[list[Tensor], list[Tensor]]:
        judges = [weight for critic in task.critics for weight in critic.parameters()]
        known = {id(weight) for weight in judges}
        others = [weight for weight in task.model.parameters() if id(weight) not in known]
        return copy.deepcopy(judges), copy.deepcopy(others)

    def step(self: Any, batch: Any, kind: Any) -> Any:
        before = weights(self)
        found = original(self, batch, kind)
        moved = [not all(map(torch.equal, *pair)) for pair in zip(before, weights(self), strict=True)]
        seen.append((len(batch), *moved))
        return found

    monkeypatch.setattr(AdversarialTask, "step", step)
    assert train(*words(digits_root, tmp_path, method)) == 0
    both, critics = (32, True, True), (32, True, False)
    assert seen == [critics, both, critics, both, critics, both]  # the 4 images left over in each epoch are left out


def test_pbigan_s_schedules(digits_root, tmp_path, monkeypatch):
    """MNIST's: 0 up to epoch 100 of 2000, then linear to 0.1. CelebA's: ten steps of (5e-5 / 2e-4)^(1/10)."""
    task = task_of(digits_root, tmp_path, "pbigan")
    task.training_spec = {**task.training_spec, "epochs": 2000, "reconstruction_weight": 0.1, "ramp_from": 0.05}
    found = [task.reconstruction_weight(epoch - 1) for epoch in (1, 100, 101, 1050, 2000)]
    assert found == pytest.approx([0, 0, 0.1 / 1900, 0.05, 0.1])

    optimizers = task.configure_optimizers()
    monkeypatch.setattr(TrainPBiGAN, "optimizers", lambda self, use_pl_optimizer: optimizers)
    task.training_spec = {**task.training_spec, "epochs": 500, "lr": 5e-4, "final_lr": 1.25e-4}
    rates = []
    for epoch in (0, 49, 50, 499):
        monkeypatch.setattr(TrainPBiGAN, "current_epoch", epoch)
        task.set_rate(5e-4)
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
    factor = 0.25**0.1
    assert rates == [pytest.approx([5e-4, 5e-4 * factor**k]) for k in (0, 0, 1, 9)]

    task.training_spec = {**task.training_spec, "critic_steps": 5, "own_batch": True}
    turns = [(task.critics_learn(turn), task.generators_learn(turn)) for turn in range(12)]
    assert turns == [*[(True, False)] * 5, (False, True)] * 2


def test_misgan_s_imputer_has_its_own_rate(digits_root, tmp_path, monkeypatch):
    task = task_of(digits_root, tmp_path, "misgan", "imputer.training.lr=1e-4", "imputer.training.imputer_lr=2e-4")
    optimizers = task.configure_optimizers()
    monkeypatch.setattr(TrainMisGAN, "optimizers", lambda self, use_pl_optimizer: optimizers)
    task.set_rate(5e-5)
    model = task.model
    critics = ([model.data_critic, model.mask_critic], model.imputer_critic)
    generators = ([model.data_generator, model.mask_generator], model.imputer)
    for optimizer, (shared, own) in zip(optimizers, (critics, generators), strict=True):
        groups = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
        assert {groups.pop(id(weight)) for weight in own.parameters()} == {1e-4}
        assert {groups.pop(id(weight)) for module in shared for weight in module.parameters()} == {5e-5}
        assert not groups and optimizer.defaults["betas"] == (0.5, 0.9)


# ---------------------------------------------------------------------- runs


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_is_bit_identical_and_stored(method, digits_root, tmp_path, monkeypatch):
    """In the second epoch, between a step of the critics and one of the generators."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(*words(digits_root, whole, method)) == 0
    original, calls = AdversarialTask.step, [0]

    def killed(self: Any, batch: Any, kind: Any) -> Any:
        if calls[0] == 5:
            raise Killed
        calls[0] += 1
        return original(self, batch, kind)

    with monkeypatch.context() as patch:
        patch.setattr(AdversarialTask, "step", killed)
        patch.setattr(stepping, "CHUNK_SECONDS", 0)
        with pytest.raises(Killed):
            train(*words(digits_root, cut, method))
    assert train(*words(digits_root, cut, method)) == 0
    runs = [RunFolder.of(place, recipe(*words(digits_root, place, method))) for place in (whole, cut)]
    assert contents(runs[0].path) == contents(runs[1].path)
    task = task_of(digits_root, whole, method)
    task.model = load(runs[0])
    found = {f"test/{name}": value for name, value in task.evaluate(task.data.test).items()}
    assert found == runs[0].metrics["metrics"] and math.isfinite(found["test/rmse"])


@pytest.mark.parametrize("own", [0, 3])
@pytest.mark.parametrize("method", METHODS)
def test_missing_values_reach_no_generator(method, own, tmp_path, monkeypatch):
    """Those of training images change nothing, those of test images the metrics only."""
    file = user_file(tmp_path, own)
    chosen = [word for word in RUN if word.startswith("imputer.") or word in ("task=impute", "features=none")]
    more = (f"imputer={method}_digits", *chosen, "imputer.training.batch_size=10")
    clean = run_all(file, tmp_path / "clean", "zero", more=more)
    assert any("critic" in key for key in clean) and any("/train/loss" in key for key in clean)
    for split in ("train", "test"):
        with monkeypatch.context() as patch:
            tampering(patch, noise_behind(split))
            changed = differences(clean, run_all(file, tmp_path / f"tampered {split}", "zero", more=more))
        assert all("/test/" in key for key in changed), changed
        assert bool(changed) == (split == "test")


def test_a_diverging_training_ends_with_advice(digits_root, tmp_path, capsys):
    assert train(*words(digits_root, tmp_path, "misgan", "imputer.training.lr=1e30")) != 0
    assert "imputer.training.lr" in capsys.readouterr().err


MISTAKES = {
    "misgan imputer.training.alpha=-1": "imputer.training.alpha",
    "misgan imputer.training.critic_steps=0": "imputer.training.critic_steps",
    "misgan imputer.tau=2": "imputer.tau",
    "misgan imputer.nets=mnist": "imputer.nets",
    "pbigan imputer.training.reconstruction=l3": "imputer.training.reconstruction",
    "pbigan imputer.training.final_lr=1": "imputer.training.final_lr",
    "pbigan imputer.training.ramp_from=1": "imputer.training.ramp_from",
    "pbigan imputer.code=mode": "imputer.code",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_before_anything_is_trained(mistake, digits_root, tmp_path, capsys):
    method, word = mistake.split()
    assert train(*words(digits_root, tmp_path, method, word)) == 2
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "changes nothing" not in line)
    assert MISTAKES[mistake] in said
    assert not (tmp_path / "runs").exists()
