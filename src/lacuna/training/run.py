"""One run from recipe to metrics: its prerequisites, the run itself, and the record of it."""

from __future__ import annotations

from lacuna import plugins
from lacuna.runs import environment
from lacuna.runs.folder import RunFolder
from lacuna.runs.outside import check_unchanged
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.training.fit import perform
from lacuna.training.loading import devices_of
from lacuna.training.ranks import run_ranks
from lacuna.training.validation import validate


def execute(recipe: Recipe, settings: Settings, *, announce: bool = True) -> RunFolder:
    """Run a recipe after its prerequisites; what is finished already is not done again.

    An interrupted run resumes. Where two processes ask for the same run, one waits for the other.

    Args:
        recipe: what to run.
        settings: where and how.
        announce: print a line for every run, with its folder.

    Returns:
        The finished run.

    Raises:
        LacunaError: a mistake in the recipe, the data or the machine (no space, say).
    """
    folder = RunFolder.of(settings.output, recipe)
    with plugins.permit(settings.plugins, announced=True):
        if not folder.finished:
            check_unchanged(recipe)
            validate(recipe, settings)
        return _execute(recipe, settings, announce)


def _execute(recipe: Recipe, settings: Settings, announce: bool) -> RunFolder:
    folder = RunFolder.of(settings.output, recipe)
    if folder.finished_before(announce=announce):
        return folder
    for prerequisite in recipe.prerequisites.values():
        _execute(prerequisite, settings.of_prerequisites(), announce)
    with folder.locked():
        if folder.finished:
            _announce(announce, f"finished by another process: {folder.path}")
            return folder
        devices = devices_of(recipe, settings)
        with folder.recorded(recipe, {**environment.describe(), "devices": devices}):
            _announce(announce, f"{'resuming' if folder.resumable else 'training'}: {folder.path}")
            if devices > 1:
                run_ranks(recipe, settings)
            else:
                perform(recipe, settings)
    return folder


def _announce(announce: bool, text: str) -> None:
    if announce:
        print(text, flush=True)
