"""The page about parts of one's own does what it says: its package is built, installed and used in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Command, File, missing_lines, steps

PAGE = ROOT / "docs" / "guide" / "own_parts.md"
INSTALL = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target"]


def run(words: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def command(text: str, site: Path) -> list[str]:
    """The arguments of Python for a command of the page."""
    if text.startswith("pip install "):
        return [*INSTALL, str(site), text.removeprefix("pip install ")]
    tool, verb, *words = text.split()
    if tool == "python":
        return [verb, *words]
    assert tool == "lacuna"
    return [str(ROOT / f"{verb}.py"), *words, "trainer.accelerator=cpu"]


@pytest.mark.slow
def test_the_page(tmp_path: Path) -> None:
    site = tmp_path / "site"
    search = os.pathsep.join([str(ROOT / "src"), str(ROOT), str(site)])
    environment = {**os.environ, "PYTHONPATH": search, "WANDB_MODE": "offline"}
    page = steps(PAGE.read_text(encoding="utf-8"))
    for step in page:
        if isinstance(step, File):
            step.write(tmp_path)
            continue
        done = run(command(step.text, site), tmp_path, environment)
        assert done.returncode == 0, f"$ {step.text}\n{done.stdout}"
        lacking = missing_lines(step.shown, done.stdout)
        assert not lacking, f"$ {step.text} does not print {lacking} but\n{done.stdout}"
    # without the distribution's entry point, the package must be named
    for info in site.glob("*.dist-info"):
        (info / "entry_points.txt").unlink()
    words = command(
        "lacuna train experiment=digits_impute features=none imputer.type=my_package.imputers.RowMean", site
    )
    done = run(words, tmp_path, environment)
    assert done.returncode == 2 and "which was not named: add plugins=[my_package]" in done.stdout


def test_the_page_trains_loads_and_reproduces() -> None:
    commands = [step.text for step in steps(PAGE.read_text(encoding="utf-8")) if isinstance(step, Command)]
    assert [text.split()[1] for text in commands] == ["install", "train", "use.py", "evaluate", "reproduce"]
