"""The verb ``train``: one run, and its prerequisites before it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from lacuna import plugins
from lacuna.drawing.text_table import text_table
from lacuna.executors.signals import stop_on_signals
from lacuna.runs import environment
from lacuna.runs.archive_record import Archive
from lacuna.runs.folder import RunFolder, outdated_notice
from lacuna.runs.prepare import prepare_data
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.runs.settings import Settings
from lacuna.runs.title import run_title
from lacuna.runs.trial import trial_config, trial_steps
from lacuna.runs.unused import unused_words


@plugins.permitting
def main(config: dict[str, Any], words: Sequence[str] = ()) -> int:
    """Train what the configuration names, and print its metrics. Those of a finished run are read, without torch.

    Args:
        config: the composed configuration.
        words: the overrides that it was composed from.

    Raises:
        LacunaError: a mistake the user can mend.
    """
    if trial_steps(config):
        return _try(config)
    recipe = resolve(config, prepare_data(config))
    if notice := outdated_notice(config["output"]):
        print(notice, file=sys.stderr, flush=True)
    for word in unused_words(recipe, words):
        part = word.lstrip("+").partition("=")[0].partition(".")[0]
        print(f"{word} changes nothing: this run has no {part}.", file=sys.stderr, flush=True)
    environment.check_threads(config["trainer"]["threads"])
    settings = Settings.of(config)
    stop_on_signals()
    folder = RunFolder.of(settings.output, recipe)
    if folder.finished_before():
        if settings.option("profiler", None):
            print("trainer.profiler: nothing is trained, so nothing is profiled", flush=True)
    else:
        _print_archived(recipe, config)
        _train(recipe, settings, config["trainer"]["threads"])
    if settings.mirrors.names:
        _mirror(recipe, settings)
    _print_metrics(folder)
    print(f"run folder: {folder.path}")
    return 0


def _try(config: dict[str, Any]) -> int:
    """Take a few steps of every training, evaluate and draw, in a folder that is removed afterwards."""
    steps, fingerprint = trial_steps(config), prepare_data(config)
    environment.check_threads(config["trainer"]["threads"])
    with tempfile.TemporaryDirectory(prefix="lacuna-trial-") as output:
        tried = trial_config(config, fingerprint, output)
        recipe, settings = resolve(tried, fingerprint), Settings.of(tried)
        print(
            f"a trial: {steps} step{'s' * (steps > 1)} of every training; nothing is kept, and nothing is logged",
            flush=True,
        )
        _train(recipe, settings, config["trainer"]["threads"])
        folder = RunFolder.of(settings.output, recipe)
        _print_metrics(folder)
        pictures = ", ".join(path.name for path in sorted(folder.pictures.glob("*.png"))) or "none"
        for each in reversed(list(recipe.graph())):
            how = f"{steps} step{'s' * (steps > 1)}" if each.training.get("lr") else "fitted"
            print(f"tried: {run_title(each)}: {how}, evaluated")
    print(f"pictures drawn: {pictures}; the numbers above mean nothing, and all of it is deleted")
    return 0


def _print_metrics(folder: RunFolder) -> None:
    print(text_table([{"metric": name, "value": f"{value:.4f}"} for name, value in folder.metrics["metrics"].items()]))


def _train(recipe: Recipe, settings: Settings, threads: int | None) -> None:
    # torch is imported only now, so that mistakes in the configuration or the data are found at once
    with environment.quick_imports():
        from lacuna.training.run import execute

    environment.set_up(threads)
    execute(recipe, settings)


def _mirror(recipe: Recipe, settings: Settings) -> None:
    """Show in the mirrors what was finished before this command: the run, or what it needed."""
    from lacuna.training.mirrors.afterwards import mirror_finished

    mirror_finished((one, settings if one is recipe else settings.of_prerequisites()) for one in recipe.graph())


def _print_archived(recipe: Recipe, config: dict[str, Any]) -> None:
    """Print a line where the archive has the metrics: the run is trained all the same, for its model."""
    archived = Archive(config["results"], config["output"]).get(recipe)
    if archived is not None:
        print(f"the metrics of this run are archived in {archived.file}; it is trained for its model", flush=True)
