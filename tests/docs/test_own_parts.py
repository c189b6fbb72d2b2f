"""The page about parts of one's own does what it says: its package is built, installed and used in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Command, File, missing_lines, steps
from tests.wheel import build, environment, install, run

PAGE = ROOT / "docs" / "guide" / "own_parts.md"


def command(text: str, binaries: Path) -> list[str | Path]:
    """A command of the page in an environment."""
    tool, *words = text.split()
    if tool == "lacuna":
        words.append("trainer.accelerator=cpu")
    return [binaries / tool, *words]


@pytest.mark.slow
def test_the_page(tmp_path: Path) -> None:
    """In an empty folder, with nothing of lacuna but its wheel."""
    for name in ("package", "empty"):
        (tmp_path / name).mkdir()
    folder = tmp_path / "empty"
    binaries = environment(tmp_path / "environment", build(tmp_path / "package")[1])
    for step in steps(PAGE.read_text(encoding="utf-8")):
        if isinstance(step, File):
            step.write(folder)
            continue
        if step.text.startswith("pip install "):
            install(binaries, step.text.removeprefix("pip install "), folder)
            continue
        done = run(command(step.text, binaries), folder)
        assert done.returncode == 0, f"$ {step.text}\n{done.stderr}"
        lacking = missing_lines(step.shown, done.stdout)
        assert not lacking, f"$ {step.text} does not print {lacking} but\n{done.stdout}"
    # without the distribution's entry point, the package must be named
    for info in binaries.parent.glob("lib/*/site-packages/my_parts-*.dist-info"):
        (info / "entry_points.txt").unlink()
    text = "lacuna train experiment=digits_impute features=none imputer.type=my_package.imputers.RowMean"
    done = run(command(text, binaries), folder)
    assert done.returncode == 2 and "which was not named: add plugins=[my_package]" in done.stderr


def test_the_page_trains_loads_and_reproduces() -> None:
    commands = [step.text for step in steps(PAGE.read_text(encoding="utf-8")) if isinstance(step, Command)]
    assert [text.split()[1] for text in commands] == ["install", "train", "use.py", "evaluate", "reproduce"]
