"""``scripts/wandb_workspace.py``: what it lays out is what runs log; without W&B it says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lacuna.runs.folder import RunFolder
from lacuna.runs.history import read_history
from scripts.wandb_workspace import TASKS, TRAINING, main
from tests.runs.real import ROOT, TINY, recipe, train


def layout(tmp_path: Path, *words: str) -> dict[str, Any]:
    to = tmp_path / "layout.json"
    assert main([f"to={to}", *words]) == 0
    return dict(json.loads(to.read_text())["spec"])


def values(found: Any, key: str) -> Iterator[Any]:
    """All values of a key, at any depth."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(found, list):
        for value in found:
            yield from values(value, key)


def test_a_workspace_has_a_section_for_each_task(tmp_path: Path) -> None:
    section = layout(tmp_path, "project=mine")["section"]
    (runs,) = section["runSets"]
    assert runs["grouping"] == [{"name": "group", "section": "run"}, {"name": "jobType", "section": "run"}]
    sections = {one["name"]: one for one in section["panelBankConfig"]["sections"]}
    assert set(sections) == {"Tables", "Training", *(title for title, *_ in TASKS.values())}
    for title, finals, curves, pictures in TASKS.values():
        shown = {name for metrics in values(sections[title], "metrics") for name in metrics}
        assert shown == {*finals, *curves}
        assert list(values(sections[title], "mediaKeys")) == [list(pictures)]
    assert section["settings"]["xAxis"] == "step"


def test_a_report_shows_a_table_and_its_runs(tmp_path: Path) -> None:
    spec = layout(tmp_path, "table=misconv/table1")
    text = json.dumps(spec)
    assert {"page"} <= {name for keys in values(spec, "mediaKeys") for name in keys}
    assert "misconv/table1" in text and '"results"' in text
    names = {runs["name"] for grids in values(spec, "runSets") for runs in grids}
    assert names == {"the table", "its runs"}


@pytest.mark.slow
def test_runs_log_what_is_laid_out(tmp_path: Path, digits_root: Path) -> None:
    words = [*TINY, f"data.root={digits_root}", f"output={tmp_path}", "logger=csv", "stem=misconv"]
    assert train(*words) == 0
    classifier = recipe(*words)
    for made in (classifier, classifier.prerequisites["density"]):
        folder = RunFolder.of(tmp_path, made)
        _, finals, curves, pictures = TASKS[made.task]
        assert set(finals) <= set(folder.metrics["metrics"])
        assert set(curves) <= set(read_history(folder.path / "metrics.jsonl")[0])
        drawn = {path.stem for path in folder.pictures.glob("*.png")}
        assert {name for name in pictures if not name.startswith("training/")} == drawn
        header = (folder.path / "csv" / "metrics.csv").read_text().splitlines()[0].split(",")
        assert set(TRAINING) - {"train/step_loss"} <= set(header)


def test_without_wandb_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: W&B is not there (there is no W&B key") and len(said.splitlines()) == 1
    assert main(["nonsense=1"]) == 2 and "nonsense=1: give project=" in capsys.readouterr().err
    script = [sys.executable, str(ROOT / "scripts" / "wandb_workspace.py"), f"to={tmp_path / 'spec.json'}"]
    assert subprocess.run(script, capture_output=True, text=True).returncode == 0
    assert (tmp_path / "spec.json").is_file()
