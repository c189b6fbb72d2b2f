"""Packages of the extras are imported by their own options only, and where one is missing the option says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lacuna.verbs import cli

OPTIONAL = ("wandb", "wandb_workspaces", "tensorboard", "tensorboardX", "mlflow", "ray", "optuna", "submitit", "timm")
OPTIONAL += ("hydra_plugins", "torch_fidelity")
ROOT = Path(__file__).resolve().parents[1]

COMMANDS = """
import sys
import lacuna
from lacuna.verbs.cli import main
own = ["trainer.accelerator=cpu", "budget=smoke"]
assert main(["train", "experiment=digits_misconv", "trainer.progress=false", *own]) == 0
assert main(["reproduce", "table=demo", "rows=[zero]", "plan=true", *own]) == 0
assert main(["reproduce", "table=demo", "rows=[zero]", "executor=processes", "executor.runs=1", *own]) == 0
assert main(["evaluate", "run=digits-square-dmfa-smoke", "trainer.accelerator=cpu"]) == 0
import numpy
numpy.savez("images.npz", images=numpy.zeros((3, 8, 8), "uint8"), observed=numpy.ones((3, 8, 8), bool))
assert main(["impute", "run=digits-square-dmfa-smoke", "input=images.npz", "to=done", "trainer.accelerator=cpu"]) == 0
lacuna.load("digits-square-dmfa-smoke")
assert len(lacuna.results()) >= 3
print("blocked:", all(sys.modules[name] is None for name in sys.argv[1:]))
"""


@pytest.mark.slow
def test_everything_else_works_without_them(tmp_path: Path) -> None:
    """They cannot be imported in any process: neither here nor in workers."""
    blocked = f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(blocked)
    path = os.pathsep.join([str(tmp_path / "blocked"), str(ROOT / "src")])
    words = [sys.executable, "-c", COMMANDS, *OPTIONAL]
    done = subprocess.run(words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("blocked: True\n")


@pytest.mark.parametrize(
    ("package", "words", "sentence"),
    [
        (
            "ray",
            ["reproduce", "table=demo", "rows=[zero]", "budget=smoke", "executor=ray"],
            "executor=ray needs the package ray: pip install 'lacuna-images[ray]'.",
        ),
        (
            "optuna",
            ["sweep", "experiment=digits_zero", "search=classifier", "budget=smoke"],
            "python sweep.py needs the package optuna: pip install 'lacuna-images[sweep]'.",
        ),
        (
            "wandb",
            ["train", "experiment=digits_zero", "budget=smoke", "logger=wandb"],
            "logger=wandb needs the package wandb: pip install 'lacuna-images[wandb]'.",
        ),
        (
            "tensorboard",
            ["train", "experiment=digits_zero", "budget=smoke", "logger=tensorboard"],
            "logger=tensorboard needs the package tensorboard: pip install 'lacuna-images[tensorboard]'.",
        ),
        (
            "mlflow",
            ["train", "experiment=digits_zero", "budget=smoke", "logger=mlflow"],
            "logger=mlflow needs the package mlflow: pip install 'lacuna-images[mlflow]'.",
        ),
        (
            "timm",
            ["train", "experiment=digits_zero", "budget=smoke", "net=timm"],
            "A network of timm needs the package timm: pip install 'lacuna-images[timm]'.",
        ),
    ],
)
def test_a_missing_package_is_one_sentence(
    package: str,
    words: list[str],
    sentence: str,
    digits_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.main([*words, f"data.root={digits_root}", "trainer.accelerator=cpu"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {sentence}")
