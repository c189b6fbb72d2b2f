"""Run folders and archives of version 2 on disk: new names, the same numbers, loadable, finished, resumable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lacuna
from lacuna import files
from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.runs.folder import RunFolder
from lacuna.runs.migration import MODULES, identity
from lacuna.runs.recipe import Recipe
from lacuna.runs.results import rows
from lacuna.runs.settings import Settings
from lacuna.training.checkpoint import KEY, load
from lacuna.training.migrate import main, migrate_archive, migrate_runs
from lacuna.training.run import execute
from tests.runs import earlier, real

WORDS = ("experiment=digits_misconv", *real.TINY)
OLD_MODULES = {new: old for old, new in MODULES.items()}


@pytest.fixture(scope="module")
def trained(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A finished classifier behind a finished density, of today."""
    output = tmp_path_factory.mktemp("trained")
    config = compose(CONFIGS, "train", [*WORDS, f"output={output}", f"data.root={digits_root}"])
    recipe = real.recipe(*WORDS, f"data.root={digits_root}")
    folder = execute(recipe, Settings.of(config), announce=False)
    files.write_json(folder.path / "evaluations" / "noise-test-1a2b3c4d.json", evaluation())
    return recipe, output


def evaluation() -> dict[str, object]:
    return {"mask": {"name": "noise", "rate": 0.9}, "split": "test", "metrics": {"accuracy": 0.5}, "images": 40}


@pytest.fixture
def aged(trained: tuple[Recipe, Path], tmp_path: Path) -> tuple[Recipe, Path]:
    """The same as version 2 left it."""
    recipe, output = trained
    shutil.copytree(output / "runs", tmp_path / "runs")
    for today in (recipe, *recipe.prerequisites.values()):
        age(RunFolder.of(tmp_path, today).path, today)
    return recipe, tmp_path


def age(path: Path, today: Recipe) -> Path:
    before = earlier.recipe(today.config)
    files.write_json(path / "recipe.json", before)
    state = load_file(path / "model.safetensors")
    names = {name: name for name in state}
    for new, old in OLD_MODULES.items():
        names = {name: found.replace(f"{new}.", f"{old}.") for name, found in names.items()}
    save_file({names[key]: value for key, value in state.items()}, path / "model.safetensors", owner(before))
    return path.rename(path.with_name(earlier.name(today)))


def owner(recipe: dict[str, object]) -> dict[str, str]:
    return {"recipe": identity(recipe)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_migrated_runs_are_today_s_byte_by_byte(trained, aged) -> None:
    recipe, output = aged
    before = contents(output)
    report = migrate_runs(output, check=True)
    assert len(report.migrated) == 2 and contents(output) == before
    assert migrate_runs(output).migrated == report.migrated and not report.failed
    assert contents(output / "runs") == contents(trained[1] / "runs")
    folder = RunFolder.of(output, recipe)
    assert folder.finished and isinstance(lacuna.load(folder.path), torch.nn.Module)
    key = lambda row: (row["identity"], row["metric"], str(row["evaluation"]))  # noqa: E731
    found, expected = (sorted(rows(place, None), key=key) for place in (output, trained[1]))
    assert [row["value"] for row in found] == [row["value"] for row in expected]
    assert any(row["evaluation"] == "noise-test-1a2b3c4d" for row in found)
    again = migrate_runs(output)
    assert not again.migrated and len(again.current) == 2


def test_a_finished_run_is_not_trained_again(aged, digits_root: Path, capsys) -> None:
    recipe, output = aged
    migrate_runs(output)
    config = compose(CONFIGS, "train", [*WORDS, f"output={output}", f"data.root={digits_root}"])
    before = contents(output)
    assert execute(recipe, Settings.of(config)).path == RunFolder.of(output, recipe).path
    assert contents(output) == before and "finished" in capsys.readouterr().out


@pytest.mark.parametrize("stop", ["save_file", "rename", "recipe.json"])
def test_an_interrupted_migration_goes_on(stop: str, trained, aged, monkeypatch: pytest.MonkeyPatch) -> None:
    output = aged[1]

    def killed(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    write = files.write_json
    with monkeypatch.context() as patch:
        if stop == "save_file":
            patch.setattr("safetensors.torch.save_file", killed)
        elif stop == "rename":
            patch.setattr(Path, "rename", killed)
        else:
            patch.setattr(
                files, "write_json", lambda path, value: (killed if path.name == stop else write)(path, value)
            )
        with pytest.raises(KeyboardInterrupt):
            migrate_runs(output)
    migrate_runs(output)
    assert contents(output / "runs") == contents(trained[1] / "runs")


def test_an_unfinished_run_keeps_its_checkpoint(trained, tmp_path: Path) -> None:
    recipe = trained[0]
    path = RunFolder.of(tmp_path, recipe).path
    before = earlier.recipe(recipe.config)
    files.write_json(path / "recipe.json", before)
    (path / "checkpoints").mkdir()
    old, new = next(iter(MODULES.items()))
    state = {"state_dict": {f"model.{old}.weight": torch.ones(2), "model.body.weight": torch.zeros(2)}, "epoch": 3}
    state[KEY] = {"recipe": identity(before), "ranks": [{"modules": {f"model.{old}": {"n": 1}}, "rng": 5}]}
    torch.save(state, path / "checkpoints" / "last.ckpt")
    path = path.rename(path.with_name(earlier.name(recipe)))
    assert list(migrate_runs(tmp_path).migrated) == [path.name]
    found = load(RunFolder.of(tmp_path, recipe).checkpoints / "last.ckpt", recipe.identity)
    assert list(found["state_dict"]) == [f"model.{new}.weight", "model.body.weight"] and found["epoch"] == 3
    assert found[KEY]["ranks"] == [{"modules": {f"model.{new}": {"n": 1}}, "rng": 5}]
    assert not RunFolder.of(tmp_path, recipe).finished and RunFolder.of(tmp_path, recipe).resumable


def test_what_cannot_be_migrated_is_named_and_left_alone(aged, tmp_path: Path, capsys) -> None:
    recipe, output = aged
    runs = output / "runs"
    shutil.copytree(runs / earlier.name(recipe), runs / "a-version-1")
    files.write_json(runs / "a-version-1" / "recipe.json", {"version": 1})
    shutil.copytree(runs / earlier.name(recipe), runs / "b-damaged")
    (runs / "b-damaged" / "recipe.json").write_text("{")
    shutil.copytree(runs / earlier.name(recipe), runs / "c-weights-of-another")
    other = earlier.recipe(recipe.with_seed(1).config)
    files.write_json(runs / "c-weights-of-another" / "recipe.json", other)
    density = RunFolder.of(output, recipe.prerequisites["density"])
    busy = runs / earlier.name(recipe.prerequisites["density"])
    left = {path: contents(path) for path in (runs / "a-version-1", runs / "b-damaged", runs / "c-weights-of-another")}
    with FileLock(busy / ".lock"):
        assert main([f"output={output}", f"results={tmp_path / 'results'}"]) == 1
    said = capsys.readouterr()
    assert "1 migrated, 0 up to date, 4 left unchanged" in said.out and len(said.err.splitlines()) == 4
    for name in ("version 1", "b-damaged", "c-weights-of-another", busy.name):
        assert name in said.err
    assert {path: contents(path) for path in left} == left and busy.exists() and not density.path.exists()
    assert main([f"output={output}", f"results={tmp_path / 'results'}"]) == 1
    assert density.finished


def test_two_runs_never_become_one(aged) -> None:
    recipe, output = aged
    there = RunFolder.of(output, recipe).path
    there.mkdir()
    report = migrate_runs(output)
    (reason,) = report.failed.values()
    assert str(there) in reason and (output / "runs" / earlier.name(recipe)).exists()


def test_an_archive_is_migrated_file_by_file(trained, tmp_path: Path, capsys) -> None:
    recipe = trained[0]
    for each in (recipe, recipe.with_seed(1), recipe.with_seed(2)):
        record = earlier.record(each.config)
        files.write_json(tmp_path / f"{record['name']}.json", record)
    files.write_json(tmp_path / f"{recipe.with_seed(2).name}.json", {"recipe": recipe.config})  # other content
    before = contents(tmp_path)
    nowhere = f"output={tmp_path / 'nowhere'}"
    assert main([f"results={tmp_path}", nowhere, "check=true"]) == 1 and contents(tmp_path) == before
    assert main([f"results={tmp_path}", nowhere]) == 1
    assert "2 migrated, 1 up to date, 1 left unchanged" in capsys.readouterr().out
    for each in (recipe, recipe.with_seed(1)):
        found = json.loads((tmp_path / f"{each.name}.json").read_text())
        assert found["metrics"] == earlier.record(each.config)["metrics"] and found["recipe"] == each.portable
        assert not (tmp_path / f"{earlier.name(each)}.json").exists()
    assert len(rows(tmp_path / "nowhere", tmp_path)) == 4  # two runs, each with an evaluation
    after = contents(tmp_path)
    assert len(migrate_archive(tmp_path).failed) == 1 and contents(tmp_path) == after
    with pytest.raises(lacuna.LacunaError, match="check=maybe"):
        main(["check=maybe"])
    with pytest.raises(lacuna.LacunaError, match="give one that exists"):
        main([f"results={tmp_path / 'a'}", f"output={tmp_path / 'b'}"])


def test_weights_carry_the_identity_of_today(aged) -> None:
    recipe, output = aged
    migrate_runs(output)
    with safe_open(RunFolder.of(output, recipe).path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"recipe": recipe.identity}
