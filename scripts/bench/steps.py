"""A training step of every task, with all that lacuna does around it, against a bare loop over the same batches.

    python scripts/bench/steps.py [zero] [misconv] ... [--seconds 3] [--turns 5]

The bare loop is what one writes by hand: batches gathered from memory, loss, gradients, the same fused optimiser. It
keeps no means, writes no history and no checkpoints, and logs nothing. Both run one after the other in the same
process, several times; processor time of one thread, and the faster half of the turns, which other load changes least.
The digits' small networks are the hardest case: the less a step takes, the more weighs what is around it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _report import report  # type: ignore[import-not-found]

IMPUTE = ("experiment=digits_impute", "features=none")
# Every epoch is as the first, the only one of the bare loop: no new imputations, no weight of a loss that changes.
NO_REFRESH = ("imputer.training.refresh.first=1000000", "imputer.training.stop=null")
TASKS: dict[str, tuple[str, ...]] = {
    "zero imputation, classifier": ("experiment=digits_zero",),
    "MisConv, classifier": ("experiment=digits_misconv",),
    "DMFA": ("experiment=digits_dmfa", "density.training.mse_epochs=0"),
    "WAE": ("experiment=digits_wae", "features=none"),
    "ACFlow": ("experiment=digits_flow",),
    "MCFlow": (*IMPUTE, "imputer=mcflow_digits", *NO_REFRESH),
    "PRFlow": (*IMPUTE, "imputer=prflow_digits", *NO_REFRESH, "imputer.training.prior.rule=fixed"),
    "MisGAN": (*IMPUTE, "imputer=misgan_digits"),
    "P-BiGAN": (*IMPUTE, "imputer=pbigan_digits", "imputer.training.ramp_from=null"),
    "U-Net": (*IMPUTE, "imputer=unet_digits"),
}
IMAGES = 1100
FLOOR = 1.05


def bare_seconds(make: Callable[[], Any], epochs: int) -> float:
    """Seconds per batch of the loop written by hand."""
    from lacuna.throughput.by_hand import HandWritten, without_means

    task = make()
    task.prepare()
    task.model.train()
    loop, loader, number = HandWritten(task), task.data.loader(task.data.train, shuffle=True), 0
    with without_means():
        begin = time.process_time()
        for _ in range(epochs):
            for positions in loader.positions():
                loop.step(positions, number)
                number += 1
        return (time.process_time() - begin) / number


def trained_seconds(make: Callable[[], Any], recipe: Any, settings: Any, folder: Path) -> float:
    """Seconds per batch of lacuna's training, with history, checkpoints and ends of epochs."""
    import pytorch_lightning as pl

    from lacuna.training.fit import _trainer
    from lacuna.training.loggers import DiskLogger
    from lacuna.training.resume import Resume

    class Clock(pl.Callback):
        begin = seconds = 0.0

        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.begin = time.process_time()

        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.seconds = (time.process_time() - self.begin) / task.batches_done

    task = make()
    trainer = _trainer(recipe, settings, [DiskLogger(folder)], Resume(folder / "checkpoints", recipe.identity, 60))
    clock = Clock()
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    trainer.fit(task, datamodule=task.data)
    return clock.seconds


def ratio(name: str, seconds: float, turns: int, place: Path) -> tuple[float, float]:
    """Seconds per step of ours and of the bare loop."""
    import torch

    from lacuna.config.compose import compose
    from lacuna.config.paths import CONFIGS
    from lacuna.runs.prepare import prepare_data
    from lacuna.runs.recipe import Recipe
    from lacuna.runs.resolve import resolve
    from lacuna.runs.settings import Settings
    from lacuna.training.loading import make_task, open_data

    words = [f"data.root={place / 'data'}", f"output={place / 'out'}", "data.validation=0", "trainer.progress=false"]
    words += [*TASKS[name], "trainer.accelerator=cpu"]
    config = compose(CONFIGS, "train", words)
    batch = resolve(config, prepare_data(config)).training["batch_size"]
    # full batches only, for some methods leave the others out
    config = compose(CONFIGS, "train", [*words, f"data.train_images={IMAGES // batch * batch}"])
    recipe, settings = resolve(config, prepare_data(config)), Settings.of(config)

    def make() -> Any:
        torch.manual_seed(0)
        task = make_task(recipe, settings, open_data(recipe, settings), untrained=True)
        task.cache_folder = None
        return task

    once = bare_seconds(make, 1) * len(make().data.loader(make().data.train, shuffle=True))
    epochs = max(2, round(seconds / once))
    component = recipe.component
    content = {**recipe.config, component: {**recipe.config[component]}}
    content[component]["training"] = {**recipe.training, "epochs": epochs}
    recipe = Recipe(content)
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    for turn in range(turns):
        times["ours"].append(trained_seconds(make, recipe, settings, place / f"{name}{turn}"))
        times["bare"].append(bare_seconds(make, epochs))
    ours, bare = (statistics.fmean(sorted(times[name])[: turns // 2 + 1]) for name in ("ours", "bare"))
    return ours, bare


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", nargs="*", help=f"words in the names of tasks ({', '.join(TASKS)}); default: all")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    from lacuna.runs.environment import set_up

    set_up(1)
    from lacuna.training.progress import quiet_lightning

    quiet_lightning()
    with tempfile.TemporaryDirectory() as place:
        for name in TASKS:
            if not options.tasks or any(word.lower() in name.lower() for word in options.tasks):
                ours, bare = ratio(name, options.seconds, options.turns, Path(place))
                report(f"training step, {name} (digits)", "bare loop", 1e3 * ours, 1e3 * bare, "ms", FLOOR)
    return 0


if __name__ == "__main__":
    sys.exit(main())
