"""The verb ``impute``: complete a user's own images, with an imputer or with a trained model."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lacuna import plugins
from lacuna.errors import LacunaError
from lacuna.program import command_text
from lacuna.runs import environment
from lacuna.runs.folder import RunFolder
from lacuna.runs.outside import reading

if TYPE_CHECKING:
    from lacuna.inference.array_file import Stack
    from lacuna.inference.contact_sheet import Shown
    from lacuna.inference.filling import Filling
    from lacuna.inference.image_files import Outcome
    from lacuna.inference.pictures import Listing

FAILED = 1
ARRAYS = (".npy", ".npz")


def main(config: dict[str, Any]) -> int:
    """Write imputed images, their uncertainty where it is known and, if asked for, several samples of each.

    Args:
        config: the composed configuration.

    Returns:
        1 where some of the images could not be imputed, else 0.

    Raises:
        LacunaError: a mistake the user can mend.
    """
    job = Job.of(config)
    environment.check_threads(config["trainer"]["threads"])
    # torch is imported only now, so that mistakes in the configuration are found at once
    with environment.quick_imports():
        import torch

        from lacuna.inference.pictures import list_pictures

    arrays = job.source.suffix.lower() in ARRAYS
    without = [job.target, Path(str(config["output"]))]
    listing = None if arrays else list_pictures(job.source, config["mask_suffix"], without)
    if config["check"]:
        return _check(job, listing)
    environment.set_up(config["trainer"]["threads"])
    cuda = torch.cuda.is_available() and config["trainer"]["accelerator"] in ("auto", "cuda", "gpu")
    device = torch.device("cuda" if cuda else "cpu")
    outcome = _impute_arrays(job, device) if listing is None else _impute_folder(job, listing, device)
    if listing is not None:
        for kind, count in sorted(listing.left_out.items()):
            print(f"not looked at: {count} {kind}")
    return report(outcome, job.target)


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Args:
        config: the composed configuration.
        source: the images.
        target: the folder of results.
        value_range: (low, high), or None.
    """

    config: dict[str, Any]
    source: Path
    target: Path
    value_range: tuple[float, float] | None

    @classmethod
    def of(cls, config: dict[str, Any]) -> Job:
        """Checks the words.

        Raises:
            LacunaError: one of them is missing or wrong.
        """
        run, imputer, samples = config["run"], config.get("imputer"), config["samples"]
        example = f"{command_text('impute')} imputer=linear input=my_images/ to=filled"
        if run is None and imputer is None and not config["check"]:
            raise LacunaError(f"run is empty, and so is imputer: give a trained run, or {example}")
        if config["input"] in (None, ""):
            raise LacunaError(f"input is empty: {example}")
        if run is not None and imputer is not None:
            raise LacunaError(f"run={run} and imputer={imputer['name']} are both given: leave out one.")
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
            raise LacunaError(f"samples={samples} must be a whole number of at least 0.")
        source, target = Path(str(config["input"])), Path(str(config["to"]))
        if not source.exists():
            raise LacunaError(f"input={source} does not exist.")
        if source.resolve() == target.resolve():
            raise LacunaError(f"to={target} is the input: choose another place, nothing is overwritten.")
        return cls(config, source, target, _value_range(config["range"]))

    def settings(self, filling: object) -> dict[str, Any]:
        """What decides the results beside the images: they are continued by the same only."""
        kept = {key: self.config[key] for key in ("samples", "seed", "mask_suffix", "layout")}
        return {"filling": filling, "range": self.value_range and list(self.value_range), **kept}


def _value_range(given: Any) -> tuple[float, float] | None:
    if given is None:
        return None
    numbers = isinstance(given, list) and len(given) == 2 and all(type(end) in (int, float) for end in given)
    if not numbers or not given[0] < given[1]:
        raise LacunaError(f"range={given} must be the smallest and the largest value, as in range=[0,4095].")
    return float(given[0]), float(given[1])


def _impute_folder(job: Job, listing: Listing, device: Any) -> Outcome:
    from lacuna.inference.contact_sheet import finished_pictures
    from lacuna.inference.image_files import impute_pictures, readable
    from lacuna.inference.record import Record, digest_of
    from lacuna.inference.results import check_names

    names = [item.name for item in listing.items]
    check_names(job.source, names, job.config["samples"], uncertainty=False)
    filling, identity = _filling(job, device, lambda: readable(listing.items, job.value_range))
    check_names(job.source, names, job.config["samples"], filling.uncertain)
    if hasattr(filling, "lines"):
        identity["learnt_from"] = digest_of([path for item in listing.items for path in (item.path, *item.masks)])
    outcome = impute_pictures(listing, filling, Record(job.target, job.settings(identity)), job.value_range)
    shown = finished_pictures(job.target, listing.items, job.config["samples"], job.value_range)
    return _with_sheet(outcome, job.target, shown)


def _impute_arrays(job: Job, device: Any) -> Outcome:
    from lacuna.inference.array_file import read_stacks
    from lacuna.inference.image_files import impute_stacks, pictures_of
    from lacuna.inference.record import Record

    stacks, notes = read_stacks(job.source, job.config["layout"], job.value_range)
    filling, identity = _filling(job, device, lambda: pictures_of(stacks[:1]))
    outcome = impute_stacks(job.source, stacks, filling, Record(job.target, job.settings(identity)))
    outcome.notes += Counter({note: outcome.imputed for note in notes})
    return _with_sheet(outcome, job.target, _first_of(job, stacks))


def _first_of(job: Job, stacks: Sequence[Stack]) -> Iterator[Shown]:
    """The finished images of the first of a file's stacks."""
    from lacuna.inference.contact_sheet import finished_arrays
    from lacuna.inference.image_files import pictures_of

    results = job.target / f"{job.source.stem}.npz"
    return finished_arrays(results, f"{stacks[0].prefix}", pictures_of(stacks[:1]))


def _with_sheet(outcome: Outcome, target: Path, shown: Iterable[Shown]) -> Outcome:
    """Write the contact sheet, unless nothing is new."""
    from lacuna.inference.contact_sheet import SHEET, write_sheet

    if outcome.imputed or (outcome.kept and not (target / SHEET).exists()):
        facts = [("imputed", outcome.imputed), ("there already", outcome.kept), ("complete already", outcome.complete)]
        failed = [f"{name}: {sentence}" for name, sentence in outcome.failed]
        write_sheet(target, shown, [(name, str(count)) for name, count in facts if count], failed)
    return outcome


def _filling(job: Job, device: Any, pictures: Any) -> tuple[Filling, dict[str, Any]]:
    """What fills, and what identifies it."""
    from lacuna.inference.filling import Filling, Learned, built, untrained

    config, samples, seed = job.config, job.config["samples"], job.config["seed"]
    imputer = config.get("imputer")
    if imputer is not None:
        with plugins.permit(config["plugins"], announced=True):
            if not built(imputer).needs_fit:
                return untrained(imputer, device, samples, seed), dict(imputer)
            learned = Learned(imputer, device, samples, seed, pictures())
        print("\n".join(learned.lines))
        return learned, dict(imputer)
    from lacuna.inference.trained_model import load_for_imputation

    folder = RunFolder.find(config["output"], str(config["run"]))
    with reading(folder, config["plugins"], "plugins=[{}]"):
        model, sizes, own = load_for_imputation(folder, device)
    return Filling(model, sizes, device, samples, seed, own), {"run": folder.recipe.identity}


def report(outcome: Outcome, target: Path) -> int:
    """Say what became of the images.

    Returns:
        The exit code.
    """
    for note, count in sorted(outcome.notes.items()):
        print(f"{count} image{'s' * (count != 1)}: {note}")
    for name, sentence in outcome.failed:
        print(f"failed: {name}: {sentence}", file=sys.stderr)
    if not outcome.imputed + outcome.kept:
        print(f"{len(outcome.failed)} of {len(outcome.failed)} images failed: nothing was written", file=sys.stderr)
        return FAILED
    complete = f", {outcome.complete} of them complete already" if outcome.complete else ""
    before = f", {outcome.kept} more were there already" if outcome.kept else ""
    print(f"{outcome.imputed} image{'s' * (outcome.imputed != 1)} imputed in {target}{complete}{before}")
    print(f"contact sheet: {target / 'contact_sheet.html'}")
    if outcome.failed:
        total = outcome.imputed + outcome.kept + len(outcome.failed)
        print(f"{len(outcome.failed)} of {total} images failed", file=sys.stderr)
    return FAILED if outcome.failed else 0


def _check(job: Job, listing: Listing | None) -> int:
    from lacuna.inference.check import array_lines, folder_lines

    if listing is None:
        print("\n".join(array_lines(job.source, job.config["layout"], job.value_range)))
        return 0
    lines, failed = folder_lines(listing, job.value_range)
    print("\n".join(lines))
    for name, sentence in failed:
        print(f"left out: {name}: {sentence}", file=sys.stderr)
    return FAILED if failed else 0
