"""Every tutorial does what it says: its files are written and its commands run in a copy of the checkout.

At the smoke budget instead of the quick one, so that numbers differ; all other shown output must be there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Command, File, missing_lines, steps

PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
COPIED = ("src", "configs", "scripts", "tests", "results", "pyproject.toml")


def tiny(text: str) -> str:
    """The same at the smallest budget."""
    return re.sub(r"\bquick\b", "smoke", text)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy, in which a tutorial may add files."""
    without = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*COPIED, *(path.name for path in ROOT.glob("*.py"))):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=without)
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def run(command: str, root: Path) -> str:
    """Its output, errors included.

    Raises:
        AssertionError: it fails.
    """
    outer = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = outer | {"PATH": search, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}", "WANDB_MODE": "offline"}
    done = subprocess.run(
        command, shell=True, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tutorial(page: Path, checkout: Path) -> None:
    for step in steps(tiny(page.read_text(encoding="utf-8"))):
        if isinstance(step, File):
            step.write(checkout)
            continue
        output = run(step.text, checkout)
        lacking = missing_lines(step.shown, output)
        assert not lacking, f"$ {step.text} does not print {lacking} but\n{output}"


def test_every_tutorial_has_commands() -> None:
    assert len(PAGES) >= 4
    for page in PAGES:
        assert any(isinstance(step, Command) for step in steps(page.read_text(encoding="utf-8"))), page.name


def test_contributing_has_the_example_of_the_tutorial() -> None:
    """Which is the one that runs."""
    tutorial = steps((ROOT / "docs" / "tutorials" / "add_a_method.md").read_text(encoding="utf-8"))
    files = [step for step in steps((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")) if isinstance(step, File)]
    assert len(files) == 2
    assert all(file in tutorial for file in files)


def test_shown_output_may_differ_in_numbers_only() -> None:
    output = "training: runs/a-s0-0123456789ab\nx\nmetric  value\n──  ─\nloss    0.25*\n"
    assert not missing_lines(
        ("training: runs/a-s0-ba9876543210", "...", "metric   value", "──── ─", "loss  1e-4"), output
    )
    assert missing_lines(("loss 1", "metric value"), output) == ["metric value"]
