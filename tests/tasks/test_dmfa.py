"""The DMFA's loss, against the authors' formula written out with dense covariances, and the weights in the configs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from lacuna.mfa import MFA
from lacuna.runs.settings import Settings
from lacuna.tasks.dmfa import TrainDMFA
from lacuna.training.loading import make_task, open_data
from tests.runs.real import config, recipe


def task_of(root: Path, output: Path, *words: str) -> TrainDMFA:
    wanted = recipe("task=density", "density=dmfa_digits", *words, f"data.root={root}", "trainer.accelerator=cpu")
    settings = Settings(output, root, download=False, trainer={"accelerator": "cpu"})
    task = make_task(wanted, settings, open_data(wanted, settings))
    assert isinstance(task, TrainDMFA)
    return task


def authors_loss(mfa: MFA, x: Tensor, held_out: Tensor) -> Tensor:
    """Mean over images of (NLL of its held-out pixels + squared errors of the whole batch); one component, float64."""
    mean, noise = mfa.mean[:, 0].flatten(1).double(), mfa.noise[:, 0].flatten(1).double()
    factors = mfa.factors[:, 0].flatten(2).double()
    values, wanted = x.flatten(1).double(), held_out.expand_as(x).flatten(1)
    nll, errors = [], torch.zeros((), dtype=torch.float64)
    for m, d, a, value, where in zip(mean, noise, factors, values, wanted, strict=True):
        errors = errors + (m - value)[where].square().sum()
        if not where.any():  # the two squares are the same
            nll.append(torch.zeros((), dtype=torch.float64))
            continue
        loadings = a[:, where]
        covariance = loadings.T @ loadings + torch.diag(d[where])
        nll.append(-MultivariateNormal(m[where], covariance).log_prob(value[where]))
    return torch.stack([one + errors for one in nll]).mean()


@pytest.mark.parametrize("size", [16, 25])
def test_the_warm_up_is_the_authors(size: int, digits_root: Path, tmp_path: Path, monkeypatch) -> None:
    """With the batch's size as the weight the gradients agree, up to the one factor between per image and per value."""
    task = task_of(digits_root, tmp_path, "density.training.mse_epochs=1", f"density.training.mse_weight={size}.0")
    batch = task.data.train.batch(torch.arange(size))
    weights = list(task.model.parameters())
    loss, count = task.loss(batch)
    found = torch.autograd.grad(loss, weights)
    mask, held_out = task.training_masks(batch)
    theirs = authors_loss(task.model(batch.observed.masked_fill(~mask, 0), mask), batch.observed, held_out)
    wanted = torch.autograd.grad(theirs, weights)
    assert loss.item() * int(count) / size == pytest.approx(theirs.item(), rel=1e-4)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one * int(count) / size, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))
    # behind the warm-up the means are moved by the likelihood alone
    monkeypatch.setattr(TrainDMFA, "current_epoch", 1)
    later, _ = task.loss(batch)
    assert later.item() < loss.item()


@pytest.mark.parametrize(
    ("choice", "batch_size"),
    [
        ("dmfa_conv", 64),
        ("dmfa_celeba64", 64),
        ("dmfa_svhn_authors", 64),
        ("dmfa_cifar10_authors", 128),
    ],
)
def test_the_weight_is_the_batch_size(choice: str, batch_size: int) -> None:
    training = config(f"density={choice}")["density"]["training"]
    assert training["mse_weight"] == training["batch_size"] == batch_size and training["mse_epochs"] == 10


def test_mnist_has_no_warm_up() -> None:
    for choice in ("dmfa_mnist", "dmfa_mnist_authors"):
        assert config(f"density={choice}")["density"]["training"]["mse_epochs"] == 0
