"""Runs whose files are damaged, unfinished or of another run: what is wrong is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.training.loading import load, open_data
from lacuna.training.run import execute
from tests.training.trained import elsewhere


@pytest.fixture
def copied(misconv: RunFolder, tmp_path: Path) -> RunFolder:
    """The finished runs, to be damaged."""
    shutil.copytree(misconv.path.parent, tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / misconv.path.name)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "garbage": b"\xff" * 100, "empty": b""}[how])


@pytest.mark.parametrize("how", ["cut", "garbage", "empty", "gone"])
def test_damaged_weights_are_named(copied: RunFolder, how: str) -> None:
    damage(copied.path / "model.safetensors", how)
    with pytest.raises(LacunaError, match=r"model\.safetensors is missing or damaged") as error:
        load(copied)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["cut", "garbage", "gone"])
@pytest.mark.parametrize("name", ["model.json", "recipe.json"])
def test_other_damaged_files_are_named(copied: RunFolder, name: str, how: str) -> None:
    damage(copied.path / name, how)
    with pytest.raises(LacunaError, match=name) as error:
        load(copied)
    assert "\n" not in str(error.value)


def test_weights_of_another_run_do_not_fit(copied: RunFolder, make: Callable[..., Recipe], settings: Settings) -> None:
    other = execute(make("stem=mask"), settings, announce=False)
    shutil.copy(other.path / "model.safetensors", copied.path)
    with pytest.raises(LacunaError, match="does not fit its recipe"):
        load(copied)


def test_an_unfinished_run_is_not_loaded(copied: RunFolder) -> None:
    (copied.path / "metrics.json").unlink()
    with pytest.raises(LacunaError, match="is not finished"):
        load(copied)


def test_a_damaged_prerequisite_stops_what_builds_on_it(copied: RunFolder, settings: Settings) -> None:
    (density,) = copied.path.parent.glob("*-dmfa-*")
    damage(density / "model.safetensors", "cut")
    shutil.rmtree(copied.path)
    with pytest.raises(LacunaError, match=r"dmfa.*model\.safetensors is missing or damaged"):
        execute(Recipe(json.loads((settings.output / "runs" / copied.path.name / "recipe.json").read_text())),
                elsewhere(settings, copied.path.parents[1]), announce=False)  # fmt: skip
    assert json.loads((copied.path / "status.json").read_text())["state"] == "failed"


def test_a_run_is_found_by_any_name(copied: RunFolder) -> None:
    output = copied.path.parents[1]
    for name in (str(copied.path), copied.path.name, "digits-square-misconv", copied.recipe.identity[:6]):
        assert RunFolder.find(output, name).path == copied.path
    with pytest.raises(LacunaError, match=r"matches \d+ runs"):
        RunFolder.find(output, "digits")
    with pytest.raises(LacunaError, match="is no run in"):
        RunFolder.find(output, "cifar")


def test_data_that_changed_are_refused(misconv: RunFolder, settings: Settings, tmp_path: Path) -> None:
    other = dict(misconv.recipe.config)
    other["data"] = {**other["data"], "fingerprint": "000000000000"}
    with pytest.raises(LacunaError, match="are not those of this run"):
        open_data(Recipe(other), settings)
