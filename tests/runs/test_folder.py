"""The folder of a run: who was at work there, and what a killed process leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder, outdated_notice
from lacuna.runs.recipe import VERSION, Recipe

RECIPE = Recipe({"made": "up"})


def test_half_written_files_of_a_killed_process_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    stale = [folder.path / ".status.json.x1", folder.checkpoints / ".last.ckpt.abc"]
    kept = [folder.path / "metrics.jsonl", folder.checkpoints / "last.ckpt", folder.path / "wandb" / ".hidden"]
    for path in (*stale, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with folder.locked():
        assert (folder.path / ".lock").exists()
        assert not any(path.exists() for path in stale)
        assert all(path.exists() for path in kept)


def attempt(folder: RunFolder, commit: str, error: BaseException | None = None) -> dict[str, Any]:
    """One attempt at a run; the status afterwards."""
    with folder.locked():
        try:
            with folder.recorded(RECIPE, {"commit": commit}):
                assert status(folder)["state"] == "running"
                if error is not None:
                    folder.checkpoints.mkdir(exist_ok=True)
                    (folder.checkpoints / "last.ckpt").write_text("x")
                    raise error
        except (KeyboardInterrupt, RuntimeError):
            pass
    return status(folder)


def status(folder: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder.path / "status.json").read_text())
    return found


def test_every_attempt_is_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run")
    times = iter(f"2020-01-01T00:00:{second:02d}+00:00" for second in range(60))
    monkeypatch.setattr("lacuna.runs.folder._now", lambda: next(times))
    first = attempt(folder, "a", KeyboardInterrupt())
    assert (first["state"], first["attempts"]) == ("interrupted", 1)
    second = attempt(folder, "b", RuntimeError("a bug"))
    assert (second["state"], second["attempts"], second["error"]) == ("failed", 2, "RuntimeError: a bug")
    third = attempt(folder, "c")
    assert (third["state"], third["attempts"]) == ("done", 3)
    assert first["started"] == second["started"] == third["started"] == folder.attempts[0]["started"]
    assert [a["commit"] for a in folder.attempts] == ["a", "b", "c"]
    assert [a["resumed"] for a in folder.attempts] == [False, True, True]
    assert len({a["started"] for a in folder.attempts}) == 3 and all(a["host"] for a in folder.attempts)


def test_a_damaged_record_of_attempts_stops_nobody(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for text in ("{", "[]", '{"attempts": 3}', '{"attempts": [1]}'):
        (tmp_path / "environment.json").write_text(text)
        assert attempt(folder, "a")["state"] == "done"
        assert [a["commit"] for a in folder.attempts] == ["a"]


@pytest.mark.parametrize("place", ["/proc/lacuna", "/dev/null/lacuna", "a" * 300, "nul\0byte"])
def test_a_place_that_cannot_hold_folders(place: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / place / "runs")
    with pytest.raises(LacunaError, match="choose another folder"):
        _ = folder.finished
        with folder.locked():
            pass


@pytest.mark.parametrize("version", [VERSION - 1, VERSION])
def test_a_run_of_an_earlier_version_is_to_be_migrated(tmp_path: Path, version: int) -> None:
    path = tmp_path / "runs" / "digits-square-zero-s0-0123456789ab"
    files.write_json(path / "recipe.json", {"version": version})
    if version == VERSION:
        assert RunFolder.find(tmp_path, path.name).path == path and outdated_notice(tmp_path) is None
        return
    for run in (path.name, "digits", str(path)):
        with pytest.raises(LacunaError, match=r"scripts/migrate\.py"):
            RunFolder.find(tmp_path, run)
    notice = outdated_notice(tmp_path)
    assert notice is not None and notice.startswith("note: 1 of the runs") and f"output={tmp_path}" in notice
