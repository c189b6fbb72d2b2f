"""One run, from recipe to metrics: what it needs first, the run itself, and the record of it all."""

from __future__ import annotations

from lacuna.runs import environment
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.training.fit import perform
from lacuna.training.loading import devices_of, rehearse
from lacuna.training.ranks import run_ranks


def execute(recipe: Recipe, settings: Settings, *, announce: bool = True, rehearsal: bool = True) -> RunFolder:
    """Run a recipe, unless that was done before; what it needs is run first.

    Returns the finished run. Interrupted runs resume; two processes asking for the same run share one.

    Raises:
        LacunaError: a mistake in the recipe, the data or the machine (no space, say).
    """
    folder = RunFolder.of(settings.output, recipe)
    if folder.finished:
        folder.settle()
        _say(announce, f"finished before: {folder.path}")
        return folder
    if rehearsal:
        rehearse(recipe, settings)
    for needed in recipe.prerequisites.values():
        execute(needed, settings, announce=announce, rehearsal=False)
    with folder.locked():
        if folder.finished:  # another process was faster
            _say(announce, f"finished by another process: {folder.path}")
            return folder
        devices = devices_of(recipe, settings)
        with folder.recorded(recipe, {**environment.describe(), "devices": devices}):
            _say(announce, f"{'resuming' if folder.resumable else 'training'}: {folder.path}")
            if devices > 1:
                run_ranks(recipe, settings)
            else:
                perform(recipe, settings)
    return folder


def _say(announce: bool, text: str) -> None:
    if announce:
        print(text, flush=True)
