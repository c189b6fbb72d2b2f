"""CPU and CUDA train alike: every task, resumed runs, bfloat16, and how much memory a step takes.

Both devices are given the same random numbers (:class:`SameRandomNumbers`), and TF32 is off: what is left is the order
in which floating-point numbers are added, a relative error of about 1e-6 in a product. Adam makes steps of full size of
the smallest gradients, so that weights drift apart more than what they compute. ``NUMBERS`` and ``WEIGHTS`` were found
on the CPU, by training with such errors put in (``Rounded``), as the last test here does again: .002 and .03 at most.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.gpu.random_images import write_random_images
from lacuna.runs.folder import RunFolder
from lacuna.runs.prepare import prepare_data
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.runs.settings import Settings
from lacuna.tasks.base import Task
from lacuna.throughput.pool import Pool
from lacuna.throughput.shortened import shortened
from lacuna.throughput.step_kinds import batch_size
from lacuna.throughput.stopwatch import TimingRequest
from lacuna.training.loggers import read_history
from lacuna.training.run import execute
from tests.gpu.same_random import Rounded, SameRandomNumbers
from tests.runs.real import TINY, recipe

TASKS = {
    "dmfa": ("experiment=digits_dmfa",),
    "smfa": ("experiment=digits_smfa",),
    "acflow": ("experiment=digits_flow",),
    "zero": ("experiment=digits_zero",),
    "partial": ("experiment=digits_partial",),
    "misconv": ("experiment=digits_misconv",),
    "wae": ("experiment=digits_wae", "stem=zero"),
    "mcflow": ("experiment=digits_impute", "imputer=mcflow_digits"),
    "prflow": ("experiment=digits_impute", "imputer=prflow_digits"),
    "misgan": ("experiment=digits_impute", "imputer=misgan_digits"),
    "pbigan": ("experiment=digits_impute", "imputer=pbigan_digits"),
    "unet": ("experiment=digits_impute", "imputer=unet_digits"),
}
"""A task of every kind, on digits: six steps each, in two epochs."""
IMPUTE = ("features=none", "imputer.training.epochs=2", "imputer.training.batch_size=32")
NUMBERS = 1e-2
"""Largest relative difference of losses and of errors after six steps."""
WEIGHTS = 0.1
"""Largest difference of all weights together, relative to their length."""
BF16 = 0.05
"""The same between bfloat16 and float32 (its numbers have 8 bits: relative errors of 4e-3)."""
GIB = 2.0**30
MEMORY = {"svhn_dmfa": 4 * GIB, "svhn_misconv": 4 * GIB, "celeba64_dmfa": 8 * GIB}
"""Most bytes of a GPU in a training step at the papers' sizes, frozen parts and data included."""


@pytest.fixture
def exact() -> Iterator[None]:
    """Full float32 in products and convolutions, chosen alike every time."""
    flags = torch.backends.cudnn
    with flags.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def made(root: Path, *words: str, sizes: tuple[str, ...] = ()) -> Recipe:
    more = IMPUTE if "experiment=digits_impute" in words else ("features=none",)
    tiny = [word for word in TINY if not ("experiment=digits_smfa" in words and "mse_epochs" in word)]  # EM has none
    return recipe(*words, *tiny, *more, *sizes, f"data.root={root}")


def train(made: Recipe, output: Path, root: Path, accelerator: str, mode: Any = None) -> dict[str, Any]:
    """Train a run and what it needs; its losses, errors and weights."""
    # random numbers from the CPU cannot be part of a graph
    step = "auto" if mode is None else "eager"
    trainer = {"accelerator": accelerator, "progress": False, "checkpoint_seconds": 0, "step": step}
    with mode or contextlib.nullcontext():
        folder = execute(made, Settings(output, root, False, trainer), announce=False)
    return found(folder)


def found(folder: RunFolder) -> dict[str, Any]:
    history = [line["train/loss"] for line in read_history(folder.path / "metrics.jsonl") if "train/loss" in line]
    errors = {k: v for k, v in folder.metrics["metrics"].items() if not k.endswith("accuracy")}
    weights = load_file(folder.path / "model.safetensors")
    return {"losses": history, "errors": errors, "weights": weights}


def distances(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """The largest relative differences of losses, of errors, and of all weights together."""
    losses = [relative(a, b) for a, b in zip(one["losses"], other["losses"], strict=True)]
    errors = [relative(one["errors"][name], other["errors"][name]) for name in one["errors"]]
    floats = [name for name, value in one["weights"].items() if value.is_floating_point()]
    both = [torch.cat([each["weights"][name].flatten().double().cpu() for name in floats]) for each in (one, other)]
    weights = float((both[0] - both[1]).norm() / both[0].norm())
    return {"losses": max(losses), "errors": max(errors), "weights": weights}


def agree(apart: dict[str, float]) -> bool:
    return apart["losses"] < NUMBERS and apart["errors"] < NUMBERS and apart["weights"] < WEIGHTS


def relative(one: float, other: float) -> float:
    return abs(one - other) / max(abs(one), abs(other), 1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", TASKS)
def test_cpu_and_cuda_agree(name: str, exact: None, tmp_path: Path, digits_root: Path) -> None:
    run = made(digits_root, *TASKS[name])
    here = train(run, tmp_path / "cpu", digits_root, "cpu", SameRandomNumbers())
    there = train(run, tmp_path / "cuda", digits_root, "cuda", SameRandomNumbers())
    apart = distances(here, there)
    assert len(here["losses"]) == 2 and agree(apart), apart


class Interrupted(KeyboardInterrupt):
    """Stands for Ctrl-C."""


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["dmfa", "misconv", "prflow", "misgan"])
def test_a_resumed_run_on_cuda(
    name: str, exact: None, tmp_path: Path, digits_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(digits_root, *TASKS[name])
    whole = train(run, tmp_path / "whole", digits_root, "cuda")
    begin = Task.on_train_epoch_start

    def stop(task: Task) -> None:
        begin(task)
        if task.current_epoch == 1 and task.config["task"]["name"] == run.task:
            raise Interrupted

    monkeypatch.setattr(Task, "on_train_epoch_start", stop)
    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "parts", digits_root, "cuda")
    monkeypatch.undo()
    assert RunFolder.of(tmp_path / "parts", run).resumable
    apart = distances(whole, train(run, tmp_path / "parts", digits_root, "cuda"))
    assert max(apart.values()) < 1e-4, apart  # sums of atomic additions may come in another order


DEVICES = [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["dmfa", "misconv", "acflow", "unet"])
def test_bfloat16_is_finite_and_close(name: str, device: str, tmp_path: Path, digits_root: Path) -> None:
    full = train(made(digits_root, *TASKS[name]), tmp_path, digits_root, device, SameRandomNumbers())
    words = (*TASKS[name], "precision=bf16-mixed")
    half = train(made(digits_root, *words), tmp_path, digits_root, device, SameRandomNumbers())
    assert all(bool(value.isfinite().all()) for value in half["weights"].values() if value.is_floating_point())
    assert all(relative(a, b) < BF16 for a, b in zip(full["losses"], half["losses"], strict=True))


def order(name: str, root: Path, output: Path, *words: str, accelerator: str) -> TimingRequest:
    config = compose(CONFIGS, "train", [f"experiment={name}", f"data.root={root}", "data.download=false", *words])
    run = resolve(config, prepare_data(config))
    return TimingRequest(shortened(run, batch_size(run)), root, output, 0.2, 0.1, accelerator, 1)


@pytest.mark.gpu
def test_memory_of_a_step(tmp_path: Path) -> None:
    write_random_images(tmp_path / "data")
    with Pool(1) as pool:
        for name, most in MEMORY.items():
            assert pool.grow(1)
            asked = order(name, tmp_path / "data", tmp_path, accelerator="cuda")
            [answer] = pool.measure(asked, 1, limit=120)
            assert answer.get("steps") and answer["bytes"] < most, (name, answer)


# ---------------------------------------------------------------------- what the tests above stand on, without a GPU


@pytest.mark.parametrize("name", ["misconv", "misgan"])
def test_the_same_random_numbers_change_nothing_on_the_cpu(name: str, tmp_path: Path, digits_root: Path) -> None:
    run = made(digits_root, *TASKS[name])
    plain = train(run, tmp_path / "plain", digits_root, "cpu")
    same = train(run, tmp_path / "same", digits_root, "cpu", SameRandomNumbers())
    assert max(distances(plain, same).values()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_rounding_stays_below_what_is_allowed_between_devices(name: str, tmp_path: Path, digits_root: Path) -> None:
    run = made(digits_root, *TASKS[name])
    plain = train(run, tmp_path / "plain", digits_root, "cpu")
    rounded = train(run, tmp_path / "rounded", digits_root, "cpu", Rounded(1e-6))
    apart = distances(plain, rounded)
    print(name, apart)
    assert agree(apart) and max(apart.values()) > 0, apart
