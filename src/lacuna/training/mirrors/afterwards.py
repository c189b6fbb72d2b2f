"""Finished runs, mirrored afterwards from what is on disk. Imports only what the mirrors need."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.training.mirrors.base import DONE, RunFacts
from lacuna.training.mirrors.memory import Memory
from lacuna.training.mirrors.run_mirrors import RunMirrors


def mirror_finished(runs: Iterable[tuple[Recipe, Settings]]) -> int:
    """Mirror those of the runs that are finished and have not been mirrored yet; returns their number."""
    count = 0
    for recipe, settings in runs:
        if not settings.mirrors.names:
            continue
        try:
            count += _mirror(recipe, settings)
        except (LacunaError, OSError) as error:
            print(f"{recipe.name} cannot be mirrored: {error}", file=sys.stderr, flush=True)
    return count


def _mirror(recipe: Recipe, settings: Settings) -> bool:
    folder = RunFolder.of(settings.output, recipe)
    if not folder.finished or not _missing(folder, settings):
        return False
    with folder.locked():
        names = _missing(folder, settings)  # another process may have done it meanwhile
        if not names:
            return False
        mirrors = RunMirrors(RunFacts.of(recipe, settings), settings.mirrors, names)
        try:
            mirrors.catch_up()
            mirrors.conclude()
        finally:
            mirrors.close(DONE)
    done = [name for name in names if mirrors.memory.finished(name)]
    if done:
        print(f"mirrored to {' and '.join(done)}: {folder.path}", flush=True)
    return bool(done)


def _missing(folder: RunFolder, settings: Settings) -> list[str]:
    memory = Memory(folder.path)
    return [name for name in settings.mirrors.names if not memory.finished(name)]
