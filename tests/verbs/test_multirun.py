"""``train.py -m``: every combination is a run of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from lacuna.runs.folder import RunFolder
from tests.runs.real import recipe, start, train

pytestmark = pytest.mark.slow


def test_three_seeds_are_three_runs(tmp_path: Path, digits_root: Path) -> None:
    words = ["experiment=digits_zero", "budget=smoke", f"data.root={digits_root}", f"output={tmp_path}"]
    words += ["trainer.accelerator=cpu", "trainer.progress=false"]
    process = start("-m", *words, "seed=0,1,2")
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert out.count("training: ") == 3
    folders = [RunFolder.of(tmp_path, recipe(*words, f"seed={seed}")) for seed in range(3)]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(f.path.name for f in folders)
    assert all(folder.finished for folder in folders)
    assert len({folder.recipe.group for folder in folders}) == 1
    assert len({folder.metrics["metrics"]["test/loss"] for folder in folders}) == 3
    # one of them on its own, in this process: the same numbers
    assert train(*words[:3], f"output={tmp_path / 'again'}", *words[4:], "seed=1") == 0
    assert RunFolder.of(tmp_path / "again", recipe(*words, "seed=1")).metrics == folders[1].metrics
