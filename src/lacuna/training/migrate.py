"""Migration of archive files and run folders to the present version (:mod:`lacuna.runs.migration`).

A run's identity is the hash of its recipe, so files and folders get new names, too. Every file is replaced atomically.
In a run folder ``recipe.json`` is written last, so that an interrupted migration can be repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.config.key_values import read_key_values
from lacuna.errors import LacunaError
from lacuna.runs.archive_record import archived_run
from lacuna.runs.folder import RunFolder
from lacuna.runs.migration import identity, migrate, migrate_evaluation, migrate_record, renamed_weight
from lacuna.runs.recipe import VERSION, Recipe

DEFAULTS: Mapping[str, Any] = {"results": "results", "output": "outputs", "check": False}
"""Keys of the command line, and their defaults."""


@dataclass
class MigrationReport:
    """The outcome for archive files or run folders.

    Args:
        migrated: old name -> new name.
        current: names of those that are of the present version already.
        failed: path -> why it cannot be migrated; it is left unchanged.
    """

    migrated: dict[str, str] = field(default_factory=dict)
    current: list[str] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)

    @property
    def counts(self) -> str:
        """``5 migrated, 0 up to date, 0 left alone``."""
        return f"{len(self.migrated)} migrated, {len(self.current)} up to date, {len(self.failed)} left unchanged"


def migrate_archive(results: Path | str, check: bool = False) -> MigrationReport:
    """Migrate every file of an archive.

    Args:
        results: the archive's folder.
        check: only report what would be migrated.
    """
    return _migrate_all(sorted(Path(results).glob("*.json")), lambda path: _migrate_archived(path, check))


def migrate_runs(output: Path | str, check: bool = False) -> MigrationReport:
    """Migrate every run below ``output/runs``: finished ones, and those that can be resumed.

    Args:
        output: the folder in which ``runs/`` lies.
        check: only report what would be migrated.
    """
    folders = sorted(path.parent for path in (Path(output) / "runs").glob("*/recipe.json"))
    return _migrate_all(folders, lambda path: _migrate_run(RunFolder(path), check))


def _migrate_all(paths: Sequence[Path], migrate_one: Callable[[Path], str]) -> MigrationReport:
    """Migrate some paths; ``migrate_one`` returns the new name of a path, or the same name where nothing is to do."""
    report = MigrationReport()
    for path in paths:
        try:
            name = migrate_one(path)
        except LacunaError as error:
            report.failed[path] = str(error)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            report.failed[path] = f"it is damaged ({type(error).__name__}: {error})."
        else:
            own = path.stem if path.suffix == ".json" else path.name
            if name == own:
                report.current.append(name)
            else:
                report.migrated[own] = name
    return report


def _migrate_archived(path: Path, check: bool) -> str:
    record = files.read_json(path)
    if record["recipe"]["version"] == VERSION:
        return path.stem
    migrated = migrate_record(record)
    run = archived_run(migrated, str(path))
    target = path.with_name(f"{run.recipe.name}.json")
    if target.exists() and files.read_json(target) != migrated:
        raise LacunaError(f"{target} exists and has other content: delete one of the two.")
    if not check:
        files.write_json(target, migrated)
        path.unlink()
    return run.recipe.name


def _migrate_run(folder: RunFolder, check: bool) -> str:
    earlier = files.read_json(folder.path / "recipe.json")
    if earlier["version"] == VERSION:
        return folder.path.name
    recipe = Recipe(migrate(earlier))
    target = folder.path.with_name(recipe.name)
    if target.exists() and target != folder.path:
        raise LacunaError(f"{target} exists already: delete one of the two.")
    if folder.in_use:
        raise LacunaError("a process is running it: wait for its end.")
    evaluations = {path: files.read_json(path) for path in sorted(folder.path.glob("evaluations/*.json"))}
    renamed = {path: migrate_evaluation(path.stem, record) for path, record in evaluations.items()}
    if check:
        return recipe.name
    owners = identity(earlier), recipe.identity
    with folder.locked():
        _migrate_weights(folder.path / "model.safetensors", *owners)
        for path in sorted(folder.checkpoints.glob("*.ckpt")):
            _migrate_checkpoint(path, *owners)
        for path, (name, record) in renamed.items():
            if record != evaluations[path]:
                files.write_json(path.with_stem(name), record)
                if name != path.stem:
                    path.unlink()
        folder.path.rename(target)
        files.write_json(target / "recipe.json", recipe.config)
    return recipe.name


def _migrate_weights(path: Path, earlier: str, present: str) -> None:
    """Store weights with the present names and identity, unless they have them."""
    if not path.exists():
        return
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    try:
        with safe_open(path, framework="pt") as file:
            owner = (file.metadata() or {}).get("recipe")
            state = {renamed_weight(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise LacunaError(f"{path} is damaged ({error}).") from error
    if _is_current(path, owner, earlier, present):
        return
    with files.replacing(path) as temporary:
        save_file(state, temporary, {"recipe": present})


def _migrate_checkpoint(path: Path, earlier: str, present: str) -> None:
    """Store a checkpoint with the present names and identity, unless it has them."""
    import torch

    from lacuna.training import checkpoint

    state = checkpoint.read(path)
    own_state = state[checkpoint.KEY]
    if _is_current(path, own_state["recipe"], earlier, present):
        return
    own_state["recipe"] = present
    for rank in own_state["ranks"]:
        rank["modules"] = {renamed_weight(name): value for name, value in rank["modules"].items()}
    state["state_dict"] = {renamed_weight(name): weight for name, weight in state["state_dict"].items()}
    with files.replacing(path) as temporary:
        torch.save(state, temporary)


def _is_current(path: Path, owner: str | None, earlier: str, present: str) -> bool:
    """Whether a file of a run has the present identity; an error if it has another run's."""
    if owner not in (earlier, present):
        raise LacunaError(f"{path} belongs to recipe {owner}, not to this run's {earlier}.")
    return owner == present


def main(arguments: Sequence[str]) -> int:
    """The command line of ``scripts/migrate.py``; 1 where something could not be migrated.

    Raises:
        LacunaError: a wrong argument.
    """
    config = read_key_values(arguments, DEFAULTS)
    check = config["check"]
    if not isinstance(check, bool):
        raise LacunaError(f"check={check} must be true or false.")
    if not any(Path(str(config[key])).is_dir() for key in ("results", "output")):
        places = f"results={config['results']} nor output={config['output']}"
        raise LacunaError(f"neither {places} is a folder: give one that exists.")
    reports = {
        str(config["results"]): migrate_archive(str(config["results"]), check),
        str(Path(str(config["output"])) / "runs"): migrate_runs(str(config["output"]), check),
    }
    for line in _failures(reports):
        print(line, file=sys.stderr)
    for place, report in reports.items():
        for old, new in report.migrated.items():
            print(f"{place}: {old} -> {new}")
    for place, report in reports.items():
        print(f"{place}: {report.counts}" + (" (check=true: nothing was changed)" if check else ""))
    return int(any(report.failed for report in reports.values()))


def _failures(reports: Mapping[str, MigrationReport]) -> Iterator[str]:
    for report in reports.values():
        for path, reason in report.failed.items():
            yield f"left unchanged: {reason}" if str(path) in reason else f"left unchanged: {path}: {reason}"
