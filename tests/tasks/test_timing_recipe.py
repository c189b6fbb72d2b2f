"""What identifies a measurement of times: its settings, its budget and the hardware."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from lacuna.config.composer import Composer
from lacuna.errors import LacunaError
from lacuna.runs import environment
from lacuna.runs.environment import hardware
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.runs.settings import Settings
from lacuna.training.measure import open_measurement
from tests.runs.real import config
from tests.tasks.timings import SMALL, made


def changed(base: dict[str, Any], **values: Any) -> Recipe:
    """The recipe of a configuration with other values, by key with ``__`` for a dot."""
    values = {key.replace("__", "."): value for key, value in values.items()}
    return resolve(Composer.with_values(base, values), "0123456789ab")


def test_what_decides_a_time_decides_the_identity_and_nothing_else_does() -> None:
    composed = config(*SMALL)
    base = changed(composed)
    for key, value in base.config["timing"].items():
        other = changed(composed, **{f"timing__{key}": False if value is True else value + 1})
        assert other.identity != base.identity, key
    assert changed(composed, precision="bf16-mixed").identity != base.identity
    other_seed = changed(composed, seed=1)
    assert other_seed.identity != base.identity and other_seed.family == base.family
    assert changed(composed, timing__hardware="abacus").identity != base.identity
    assert changed(composed, timing__hardware=hardware("cpu")).identity == base.identity
    others = [
        "data=mnist",
        "mask=noise",
        "stem=zero",
        "density=dmfa_conv",
        "net.training.epochs=3",
        "trainer.threads=2",
    ]
    assert made(*others).identity == base.identity
    assert resolve(composed, "another").identity == base.identity


def test_a_budget_caps_the_repeats_and_never_raises_them() -> None:
    composed = config(*SMALL)
    budgets = {name: config(f"budget={name}")["budget"] for name in ("paper", "quick", "smoke")}
    paper, quick, smoke = (changed({**composed, "budget": budget}) for budget in budgets.values())
    assert [one.config["timing"]["repeats"] for one in (paper, quick, smoke)] == [5000, 200, 3]
    assert [one.config["timing"]["compiled"] for one in (paper, quick, smoke)] == [True, True, False]
    few = changed({**composed, "budget": budgets["quick"]}, timing__repeats=20, timing__compiled=False)
    assert few.config["timing"]["repeats"] == 20 and few.config["timing"]["compiled"] is False
    assert paper.group == "timing-size12-missing_square5-batch3" and quick.group == f"{paper.group}-quick"
    # the paper's budget is the paper's only if it is whole; images have nothing to do with it
    assert changed(composed, data__train_images=10).config["budget"] == "paper"
    assert changed(composed, budget__timing__max_repeats=100).config["budget"] == "cut"
    assert changed(composed, budget__timing__compiled=False).config["budget"] == "cut"
    assert paper.measured and paper.training == {} and not paper.prerequisites
    trained = resolve(config("experiment=digits_zero"), "0123456789ab")
    assert not trained.measured and trained.config["budget"] == "full" and "hardware" not in trained.config


def test_the_machine_is_found_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "gpu_count", lambda: 2)
    monkeypatch.setattr(environment, "_gpu", lambda: "NVIDIA Abacus")
    assert hardware("auto") == hardware("cuda") == hardware("gpu") == "NVIDIA Abacus" != hardware("cpu")
    monkeypatch.setattr(environment, "gpu_count", lambda: 0)
    assert hardware("auto") == hardware("cpu")


def test_a_gpu_is_called_as_its_driver_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, model in enumerate(("NVIDIA Abacus", "NVIDIA Abacus", "NVIDIA Soroban")):
        place = tmp_path / "gpus" / f"0000:0{number}:00.0"
        place.mkdir(parents=True)
        (place / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 16\n")
    assert environment._gpu(tmp_path / "gpus") == "NVIDIA Abacus, NVIDIA Soroban"
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho NVIDIA Suanpan\necho NVIDIA Suanpan\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    assert environment._gpu(tmp_path / "none") == "NVIDIA Suanpan"
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert environment._gpu(tmp_path / "neither") == "GPU"


def test_a_gpu_that_torch_cannot_use_is_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lacuna.training.measure.hardware", lambda accelerator: "CPU" if accelerator == "cpu" else "Abacus"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LacunaError, match="torch cannot use the Abacus of this machine"):
        open_measurement(made("timing.hardware=Abacus"), Settings())
