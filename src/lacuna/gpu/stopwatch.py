"""A process that times training steps of any task: the real task, data and Trainer, on random images."""

from __future__ import annotations

import contextlib
import gc
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

WARM = "warm"
"""What a process says when it is ready for an order, and when the first steps of one are behind it."""
WARM_UP = {"cuda": 5, "cpu": 1}
"""Steps before the first one that counts: memory is found, and the quickest algorithms are chosen."""


@dataclass(frozen=True)
class Order:
    """What to time.

    Args:
        config: the recipe.
        root: the data folder.
        output: a folder for caches.
        seconds: how long.
        share: of the published training images, those that are in ``root``: caches may take this share of their limit.
        accelerator: ``trainer.accelerator``.
        threads: of a CPU.
    """

    config: Mapping[str, Any]
    root: Path
    output: Path
    seconds: float
    share: float
    accelerator: str
    threads: int


def serve(pipe: Connection) -> None:
    """Take orders and answer each, first with ``WARM`` (and wait for a word to go on), then with what was found.

    An answer is ``steps`` and their ``seconds``, ``begin_seconds`` (what the task does before its first step, on so
    many ``images``) and ``bytes`` (the most memory of a GPU), or an ``error`` in one line.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    from lacuna.runs.environment import set_up
    from lacuna.training.progress import quiet_lightning

    set_up(None)
    quiet_lightning()
    pipe.send(WARM)
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(_answer(pipe.recv(), pipe))


def _answer(order: Order, pipe: Connection) -> dict[str, Any]:
    import torch

    try:
        found = _timed(order, pipe)
    except (EOFError, OSError):  # nobody listens any more
        raise
    except Exception as error:
        found = {"error": " ".join(str(error).split())[:300] or type(error).__name__}
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


def _timed(order: Order, pipe: Connection) -> dict[str, Any]:
    """Build the task as a run does, on parts that are not trained, and take steps."""
    import pytorch_lightning as pl
    import torch

    from lacuna.runs.recipe import Recipe
    from lacuna.runs.settings import Settings
    from lacuna.training.loading import make_task, on_cuda, open_data
    from lacuna.training.progress import QUIET_TRAINER

    recipe = Recipe(order.config)
    limits = {"cache_gb": 4 * order.share, "resident_gb": 8}
    settings = Settings(order.output, order.root, False, {"accelerator": order.accelerator, **limits})
    torch.set_num_threads(order.threads)
    torch.manual_seed(0)
    cuda = on_cuda(settings)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    data = open_data(recipe, settings)
    task = make_task(recipe, settings, data, untrained=True)
    task.cache_folder = None  # every order begins from nothing
    watch = Watch(task, pipe, order.seconds, cuda)
    # what follows an epoch (validation, EM's new parameters, MCFlow's new imputations) is no step
    vars(task)["on_train_epoch_end"] = lambda: None
    trainer = pl.Trainer(
        accelerator="cuda" if cuda else "cpu",
        devices=1,
        max_epochs=1_000_000,
        precision=recipe.config["precision"],
        logger=[],
        callbacks=[watch.callback()],
        limit_val_batches=0,
        use_distributed_sampler=False,
        **QUIET_TRAINER,
    )
    with contextlib.suppress(Enough):
        trainer.fit(task, datamodule=data)
    peak = torch.cuda.max_memory_allocated() if cuda else 0
    return watch.found | {"images": len(data.train), "bytes": peak}


class Enough(Exception):
    """The steps have been timed."""


class Watch:
    """Times steps within epochs: the first of each is left out, with what lies between two epochs.

    Args:
        task: whose ``prepare`` is timed, too.
        pipe: told when it is warm; goes on at a word from the other side.
        seconds: of timed steps.
        cuda: whether to wait for a GPU before looking at the clock.
    """

    def __init__(self, task: Any, pipe: Connection, seconds: float, cuda: bool) -> None:
        self.pipe, self.seconds, self.cuda = pipe, seconds, cuda
        self.found: dict[str, Any] = {"steps": 0, "seconds": 0.0, "begin_seconds": 0.0}
        self._seen, self._steps = 0, 0
        self._mark: float | None = None
        self._until = 0.0
        prepare = task.prepare

        def timed() -> None:
            start = self._now()
            prepare()
            self.found["begin_seconds"] = self._now() - start

        vars(task)["prepare"] = timed

    def callback(self) -> Any:
        """What tells a Trainer's steps to this watch."""
        import pytorch_lightning as pl

        watch = self

        class Steps(pl.Callback):
            def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
                watch.step(batch_idx, last=batch_idx + 1 >= trainer.num_training_batches)

        return Steps()

    def step(self, number: int, last: bool) -> None:
        """A step has been taken, ``number`` of its epoch.

        Raises:
            Enough: the time is over.
        """
        self._seen += 1
        if self._seen < WARM_UP["cuda" if self.cuda else "cpu"]:
            return
        if not self._until:
            self._now()
            self.pipe.send(WARM)
            self.pipe.recv()
            self._until = time.perf_counter() + self.seconds
            self._mark = None if last else self._now()
            return
        if self._mark is None:
            self._mark = None if last else self._now()
            return
        self._steps += 1
        over = time.perf_counter() >= self._until
        if last or over:
            now = self._now()
            self.found["seconds"] += now - self._mark
            self.found["steps"] += self._steps
            self._mark, self._steps = None, 0
            if over or now >= self._until:
                raise Enough

    def _now(self) -> float:
        if self.cuda:
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()
