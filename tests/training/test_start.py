"""What a command loads before it answers: nothing for a finished run, and no more than it needs for other things."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lacuna.runs.environment import quick_imports
from lacuna.runs.folder import RunFolder
from tests.runs.real import ROOT, TINY

TRAIN = """
import sys
from lacuna.verbs.command import verb
code = verb("train", "lacuna.verbs.train:main")()
sys.exit(code or "torch" in sys.modules)
"""

LOAD = """
import sys
import lacuna
model = lacuna.load(sys.argv[1])
import lacuna.inference.batches, lacuna.inference.image_files, lacuna.inference.trained_model  # of impute.py
print(type(model).__name__, sorted({{{}}} & set(sys.modules)))
"""

# torch's optimisers import torch._dynamo, and with it sympy, in the first one made
TRAINING_ONLY = ("pytorch_lightning", "torchmetrics", "torchvision", "torch._dynamo", "sympy", "matplotlib", "scipy")
OPTIONAL = ("wandb", "ray", "optuna", "pandas", "sklearn", "torch_fidelity", "tensorboard", "onnx", "skimage")


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)


def state(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_answers_without_torch(misconv: RunFolder, digits_root: Path) -> None:
    """As a second ``train.py`` with the same words; one with a mistake in words that do not matter here says so."""
    before = state(misconv.path)
    words = [*TINY, f"data.root={digits_root}", f"output={misconv.path.parents[1]}", "stem=misconv"]
    done = python(TRAIN, *words)
    assert done.returncode == 0, done.stderr
    first, *table, last = done.stdout.splitlines()
    assert (first, last) == (f"finished before: {misconv.path}", f"run folder: {misconv.path}")
    shown = {row.split()[0]: row.split()[1] for row in table if "/" in row}
    assert shown == {name: f"{value:.4f}" for name, value in misconv.metrics["metrics"].items()}
    assert state(misconv.path) == before
    mistaken = python(TRAIN, *words, "trainer.threads=0")
    assert mistaken.returncode == 2 and "trainer.threads=0" in mistaken.stderr


def test_a_model_is_loaded_without_what_trains_it(misconv: RunFolder) -> None:
    unwanted = json.dumps([*TRAINING_ONLY, *OPTIONAL])[1:-1]
    done = python(LOAD.format(unwanted), str(misconv.path))
    assert done.stdout.split(maxsplit=1) == ["IncompleteClassifier", "[]\n"], done.stdout + done.stderr


def test_training_loads_no_package_that_only_some_runs_need() -> None:
    code = f"import sys, lacuna.training.run; print(sorted({set(OPTIONAL)!r} & set(sys.modules)))"
    done = python(code)
    assert done.stdout == "[]\n", done.stdout + done.stderr


@pytest.mark.parametrize("collected", [True, False])
def test_garbage_is_collected_again_after_imports(collected: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if collected else gc.disable)()
        with pytest.raises(ImportError), quick_imports():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == collected
    finally:
        (gc.enable if before else gc.disable)()
