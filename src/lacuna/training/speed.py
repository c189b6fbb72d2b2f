"""Settings of ``trainer`` that change how fast a run computes, and its numbers by rounding only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.runs.steps import Trainings
from lacuna.tasks.base import Task
from lacuna.tasks.common.steps import MODES

SWITCHES = ("auto", True, False)
COMPILE_FROM = 1_000_000
"""Steps of a training from which ``compile=auto`` compiles: it takes a minute or two, a small part of so many steps."""


def check_speed(settings: Settings) -> None:
    """Check ``trainer.step``, ``tf32``, ``channels_last``, ``compile`` and ``deterministic``.

    Raises:
        LacunaError: a value is none of the choices.
    """
    for key, choices in (
        ("step", MODES),
        ("tf32", SWITCHES[1:]),
        ("channels_last", SWITCHES),
        ("compile", SWITCHES),
        ("deterministic", (False, True, "warn")),
    ):
        value = settings.option(key, choices[0])
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
            allowed = ", ".join(str(choice).lower() for choice in choices)
            raise LacunaError(f"trainer.{key}={value} is none of {allowed}.")


def set_speed(task: Task, recipe: Recipe, settings: Settings) -> None:
    """Apply them to a task that is about to be trained.

    * ``step``: see :class:`lacuna.tasks.common.stepping.Stepping`.
    * ``tf32``: convolutions on a GPU round their factors to 10 bits. Matrix products never do, so that densities, flows
      and dense layers keep float32: small networks wait for memory there, not for arithmetic.
    * ``channels_last``: weights of convolutions, and what they compute, are stored channel by channel of a pixel, as
      tensor cores read them; auto: on a GPU.
    * ``compile``: the trained networks are compiled; auto: on a GPU, from ``COMPILE_FROM`` steps. Compiled code is kept
      in ``output/.cache``.
    """
    cuda = task.data.device.type == "cuda"
    task.step_mode = settings.option("step", "auto")
    torch.backends.cudnn.allow_tf32 = settings.option("tf32", True)
    torch.set_float32_matmul_precision("highest")
    if _on(settings.option("channels_last", "auto"), cuda):
        task.model.to(memory_format=torch.channels_last)
    if _on(settings.option("compile", "auto"), cuda and _steps(recipe, settings) >= COMPILE_FROM):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((settings.output / ".cache" / "compiled").resolve()))
        task.model.compile()


@contextmanager
def determinism(settings: Settings) -> Iterator[None]:
    """With ``trainer.deterministic``, torch uses deterministic algorithms only, or (``warn``) names the others.

    Without it torch is left as it is. On the CPU all operations of our methods are deterministic anyway.
    """
    asked = settings.option("deterministic", False)
    if not asked:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    # read when CUDA's library of matrix products starts; other values than these two make torch refuse
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=asked == "warn")
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def _on(value: Any, automatic: bool) -> bool:
    return automatic if value == "auto" else bool(value)


def _steps(recipe: Recipe, settings: Settings) -> int:
    """Steps of the training, as planned."""
    planned = Trainings(settings.data_root)(recipe)
    return 0 if planned is None else planned.steps or 0
