"""What MisConv is for, on your machine: every way of reading incomplete handwritten digits, side by side.

Trains, for several seeds, a density of the hidden pixels and a classifier behind every stem, on scikit-learn's real
digits with a missing square; prints a table and writes a picture and a page. Finished runs are kept and reused.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lacuna.cli import CONFIGS
from lacuna.composing import compose
from lacuna.errors import LacunaError
from lacuna.report.page import Picture, Table, Text, write_page
from lacuna.report.table import mean_sd, text_table
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe, prepare_data, resolve

STEMS = {
    "zero": "black holes",
    "mask": "black holes, and the mask as a channel",
    "partial": "partial convolution",
    "knn": "holes filled by 5 nearest neighbours",
    "mfa_mean": "holes filled with the density's mean",
    "misconv": "MisConv: expectation over the density",
    "gt": "nothing missing (the upper bound)",
}
INCOMPLETE, COMPLETE = "incomplete test digits", "complete test digits"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="repetitions (default 5)")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="where runs and results go")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=cores, help="runs at a time (default: CPU cores)")
    parser.add_argument("--budget", default="paper", help="paper, or smoke to see whether everything runs")
    options = parser.parse_args()
    try:
        return demo(options.seeds, options.output, max(1, options.workers), options.budget)
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on from here.", file=sys.stderr)
        return 130


def demo(seeds: int, output: Path, workers: int, budget: str) -> int:
    """Run everything, print the table, write the picture and the page."""
    if seeds < 1:
        raise LacunaError(f"--seeds {seeds}: at least one.")
    started = time.monotonic()
    densities = [_config("dmfa", seed, output, budget) for seed in range(seeds)]
    stems = {stem: [_config(stem, seed, output, budget) for seed in range(seeds)] for stem in STEMS}
    fingerprint = prepare_data(densities[0])
    free = [c for stem in STEMS if stem not in ("mfa_mean", "misconv") for c in stems[stem]]
    waiting = [c for seed in range(seeds) for c in (stems["mfa_mean"][seed], stems["misconv"][seed])]
    run_all(densities, free, waiting, workers)

    def folders(configs: Sequence[dict[str, Any]]) -> list[RunFolder]:
        return [RunFolder.of(output, resolve(config, fingerprint)) for config in configs]

    rows = [_row(stem, folders(stems[stem])) for stem in STEMS]
    quality = _density_quality(folders(densities))
    print(text_table(rows))
    print(quality)
    target = output / ("demo" if budget == "paper" else f"demo-{budget}")
    target.mkdir(parents=True, exist_ok=True)
    picture = folders(densities)[0].pictures / "imputations.png"
    shutil.copyfile(picture, target / "digits.png")
    note = f"{seeds} seeds, {time.monotonic() - started:.0f} s"
    _page(target / "index.html", rows, quality, target / "digits.png", folders(stems["misconv"])[0], note)
    print(f"\nlook at  {target / 'digits.png'}\n    and  {target / 'index.html'}   ({note})")
    return 0


def _config(what: str, seed: int, output: Path, budget: str) -> dict[str, Any]:
    """The configuration of one run, as the command line would compose it."""
    words = [f"experiment=digits_{what}", f"seed={seed}", f"output={output}", f"budget={budget}"]
    return compose(CONFIGS, "train", [*words, "trainer.progress=false", "trainer.accelerator=cpu"])


def run_all(
    densities: list[dict[str, Any]], free: list[dict[str, Any]], waiting: list[dict[str, Any]], workers: int
) -> None:
    """Run everything, one single-threaded process a core; a run that needs a density waits for it."""
    context = multiprocessing.get_context("spawn")
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True),
    )  # fmt: skip
    # threads of one run would only get into each other's way: the images are tiny, the runs many
    os.environ["OMP_NUM_THREADS"] = "1"
    with bar, ProcessPoolExecutor(workers, mp_context=context) as pool:
        task = bar.add_task("training", total=len(densities) + len(free) + len(waiting))
        lines = _plain_lines(bar.console.is_terminal, len(densities) + len(free) + len(waiting))
        try:
            for started in (densities + free, waiting):
                left: set[Future[str]] = {pool.submit(train, config) for config in started}
                while left:
                    done, left = wait(left, return_when=FIRST_COMPLETED)
                    for future in done:
                        name = future.result()
                        bar.update(task, advance=1, description=f"{name:36s}")
                        next(lines)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _plain_lines(terminal: bool, total: int) -> Iterator[None]:
    """Where there is no terminal to draw a bar on, say every now and then how far it is."""
    number = 0
    while True:
        number += 1
        if not terminal and (number % 5 == 0 or number == total):
            print(f"{number} of {total} runs", file=sys.stderr, flush=True)
        yield


def train(config: dict[str, Any]) -> str:
    """One run, in a worker process; the name of what was run."""
    from lacuna.runs.environment import set_up
    from lacuna.runs.run import execute
    from lacuna.runs.settings import Settings

    set_up(threads=1)
    recipe: Recipe = resolve(config, prepare_data(config))
    execute(recipe, Settings.of(config), announce=False)
    return f"{recipe.group}, seed {recipe.content['seed']}"


def _row(stem: str, folders: list[RunFolder]) -> dict[str, Any]:
    metrics = [folder.metrics["metrics"] for folder in folders]
    return {
        "stem": stem,
        "what it does with the holes": STEMS[stem],
        INCOMPLETE: mean_sd([m["test/accuracy"] for m in metrics], 3),
        COMPLETE: mean_sd([m["complete/accuracy"] for m in metrics], 3),
    }


def _density_quality(folders: list[RunFolder]) -> str:
    metrics = [folder.metrics["metrics"] for folder in folders]
    rmse = mean_sd([m["test/rmse"] for m in metrics], 3)
    nll = mean_sd([m["test/nll_per_dim"] for m in metrics], 2)
    return f"The density itself, on the hidden pixels of the test digits: RMSE {rmse}, {nll} nats per pixel."


def _page(
    path: Path,
    rows: list[dict[str, Any]],
    quality: str,
    picture: Path,
    misconv: RunFolder,
    note: str,
) -> None:
    images = misconv.metrics["data"]["images"]
    caption = (
        f"Accuracy, mean ± standard deviation over {note.split(',')[0]}. scikit-learn's digits (8x8), "
        f"{images['train']} for training, {images['test']} for testing; a 4x4 square is missing from every image, in "
        "training and in the first column of results. "
        f"With {images['test']} test digits, differences below {2 * (0.05 / images['test']) ** 0.5:.3f} are noise."
    )
    sections: list[Text | Table | Picture] = [
        Text(
            "Every classifier below saw the same digits with the same holes and differs only in its first layer: what "
            "it does with pixels that are not there. The density was trained on incomplete digits, too."
        ),
        Picture(picture, "rows of digits: truth, holes, mean and standard deviation of the density, two samples",
                "Test digits, what is left of them, and what the density says of the rest: its mean, its standard "
                "deviation in every pixel, and two of the many digits it considers possible.", "What could be there"),
        Table(rows, caption, "What it is good for"),
        Text(quality),
        Picture(misconv.pictures / "first_layer.png", "32 feature maps",
                "The first layer of MisConv for the first of these digits: an expectation, softer where less is known.",
                "What the network sees"),
    ]  # fmt: skip
    footer = f"{note}. Runs: {misconv.path.parent}. Repeat with: make demo"
    write_page(path, "Reading incomplete digits", sections, lead="A lacuna demonstration.", footer=footer)


if __name__ == "__main__":
    sys.exit(main())
