"""Real runs in miniature, through the command line's own path: digits, few images, few epochs, on the CPU."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.runs.prepare import prepare_data
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.verbs.command import verb

ROOT = Path(__file__).resolve().parents[2]

# A few steps an epoch, so that there is something to interrupt.
TINY = (
    "data.train_images=96",
    "data.validation=100",
    "data.validation_images=24",
    "data.test_images=48",
    "density.training.epochs=2",
    "density.training.mse_epochs=1",
    "density.training.batch_size=32",
    "flow.training.epochs=2",
    "flow.training.batch_size=32",
    "net.training.epochs=2",
    "net.training.batch_size=32",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)


def config(*words: str) -> dict[str, Any]:
    """The composed configuration of ``train.py words``."""
    return compose(CONFIGS, "train", list(words))


def recipe(*words: str) -> Recipe:
    """The recipe of ``train.py words``; prepares the data."""
    composed = config(*words)
    return resolve(composed, prepare_data(composed))


def train(*words: str) -> int:
    """``train.py words`` in this process; the exit code."""
    return verb("train", "lacuna.verbs.train:main")(words)


def start(*words: str) -> subprocess.Popen[str]:
    """``train.py words`` in a process of its own."""
    command = [sys.executable, str(ROOT / "train.py"), *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )


def interruptible() -> None:
    """A shell starts background jobs with Ctrl-C ignored, and a child would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def contents(run: Path) -> dict[str, bytes]:
    """What must be the same, bit for bit, however a run came about."""
    return {name: (run / name).read_bytes() for name in ("metrics.json", "metrics.jsonl", "model.safetensors")}
