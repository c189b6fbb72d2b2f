"""Finished runs that a mistake must leave as they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runs.mistakes import sentence
from tests.runs.real import TINY, contents, train


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, digits_root: Path) -> Path:
    """An output folder with a finished experiment; copied, never changed."""
    output = tmp_path_factory.mktemp("finished")
    assert train(*TINY, "stem=mfa_mean", f"data.root={digits_root}", f"output={output}") == 0
    return output


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it; whatever a test does, the finished runs must stay as they are."""
    shutil.copytree(finished / "runs", tmp_path / "outputs" / "runs")
    yield tmp_path / "outputs"
    for run in (finished / "runs").iterdir():
        assert contents(tmp_path / "outputs" / "runs" / run.name) == contents(run)


@pytest.fixture
def fails(output: Path, digits_root: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run ``train.py words``, which must fail with one sentence: that sentence."""

    def run(*words: str, code: int = 2) -> str:
        capsys.readouterr()
        found = train(*TINY, f"data.root={digits_root}", f"output={output}", *words)
        return sentence(found, capsys.readouterr().err, code)

    return run
