"""A process that times training steps of any task, with the real task, data module and Trainer."""

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

READY = "ready"
"""Message of a process that is ready for a request, and again after the warm-up steps of a request."""
WARM_UP = {"cuda": 40, "cpu": 1}
"""Untimed steps at the start: memory is allocated, algorithms are chosen, every kind of step is recorded."""
MODES = ("auto", "eager", "by hand")
"""How steps run: as in a run, one operation at a time, or in a loop written by hand (``by_hand.py``)."""
CHUNKS = 10
"""Least number of chunks in a timing."""


@dataclass(frozen=True)
class TimingRequest:
    """What to time.

    Args:
        config: the config of the recipe.
        root: the data folder.
        output: a folder for caches.
        seconds: duration of the timing.
        share: of the published training images that are in ``root``; caches have this share of their limit.
        accelerator: ``trainer.accelerator``.
        threads: CPU threads.
        mode: one of ``MODES``.
    """

    config: Mapping[str, Any]
    root: Path
    output: Path
    seconds: float
    share: float
    accelerator: str
    threads: int
    mode: str = "auto"


def serve(pipe: Connection) -> None:
    """Serve timing requests: answer ``READY`` after the warm-up, wait for a message, time, and answer with the result.

    A result is ``steps`` and their ``seconds``, ``begin_seconds`` (time before the first step, on ``images`` images)
    and ``bytes`` (peak GPU memory), or an ``error`` in one line.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    from lacuna.runs.environment import set_up
    from lacuna.training.progress import quiet_lightning

    set_up(None)
    quiet_lightning()
    pipe.send(READY)
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(_answer(pipe.recv(), pipe))


def _answer(request: TimingRequest, pipe: Connection) -> dict[str, Any]:
    import torch

    try:
        found = _timed(request, pipe)
    except (EOFError, OSError):  # the other end is closed
        raise
    except Exception as error:
        found = {"error": " ".join(str(error).split())[:300] or type(error).__name__}
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


def _timed(request: TimingRequest, pipe: Connection) -> dict[str, Any]:
    """Build the task as a run does, with untrained prerequisites, and time its steps."""
    import torch

    from lacuna import plugins
    from lacuna.runs.recipe import Recipe
    from lacuna.runs.settings import Settings
    from lacuna.tasks.common.precision import default_type
    from lacuna.training.loading import make_task, on_cuda, open_data
    from lacuna.training.speed import set_speed

    recipe = Recipe(request.config)
    limits = {"cache_gb": 4 * request.share, "resident_gb": 8}
    options = {"accelerator": request.accelerator, **limits, "step": "eager" if request.mode == "eager" else "auto"}
    settings = Settings(request.output, request.root, False, options)
    torch.set_num_threads(request.threads)
    torch.manual_seed(0)
    cuda = on_cuda(settings)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    # the recipe was planned by this command, which checked that its packages may be imported
    named = {name for each in recipe.graph() for name, _ in plugins.outside_types(each.config)}
    with default_type(recipe.config), contextlib.suppress(TimeUp):
        with plugins.permit(named - set(plugins.NETWORKS)):
            data = open_data(recipe, settings)
            task = make_task(recipe, settings, data, untrained=True)
        task.cache_folder = None  # every request starts without caches
        set_speed(task, recipe, settings)
        timer = StepTimer(task, pipe, request.seconds, cuda)
        if request.mode == "by hand":
            _by_hand(task, timer, request.seconds)
        else:
            _as_a_run(task, timer, request.seconds, recipe.config["precision"])
    peak = torch.cuda.max_memory_allocated() if cuda else 0
    return timer.result | {"images": len(data.train), "bytes": peak}


def _as_a_run(task: Any, timer: StepTimer, seconds: float, precision: str) -> None:
    import pytorch_lightning as pl

    from lacuna.tasks.common import stepping
    from lacuna.training.progress import QUIET_TRAINER

    # what follows an epoch (validation, EM's new parameters, MCFlow's new imputations) is not part of a step
    vars(task)["on_train_epoch_end"] = lambda: None
    stepping.CHUNK_SECONDS = min(stepping.CHUNK_SECONDS, seconds / CHUNKS)
    trainer = pl.Trainer(
        accelerator="cuda" if timer.cuda else "cpu",
        devices=1,
        max_epochs=1_000_000,
        precision=precision,  # type: ignore[arg-type]
        logger=[],
        callbacks=[timer.callback()],
        limit_val_batches=0,
        use_distributed_sampler=False,
        **QUIET_TRAINER,
    )
    trainer.fit(task, datamodule=task.data)


def _by_hand(task: Any, timer: StepTimer, seconds: float) -> None:
    from itertools import chain, count

    from lacuna.throughput.by_hand import HandWritten, without_means

    task.to(task.data.device)
    task.prepare()
    task.model.train()
    loop, loader, number = HandWritten(task), task.data.loader(task.data.train, shuffle=True), 0
    with without_means():
        batches = chain.from_iterable(loader.positions() for _ in count())
        while True:
            timer.begin(number)
            until = time.perf_counter() + seconds / CHUNKS
            while time.perf_counter() < until:
                positions = next(batches)
                if len(positions) == task.batch_size:
                    loop.step(positions, number)
                    number += 1
            timer.end(number)


class TimeUp(Exception):
    """Raised when the steps have been timed."""


class StepTimer:
    """Times chunks of steps; the time between chunks, and between epochs, is left out.

    Args:
        task: the task; its ``prepare`` is timed, too.
        pipe: gets ``READY`` after the warm-up; timing starts at a message from the other end.
        seconds: duration of the timing.
        cuda: whether to synchronise with the GPU before reading the clock.
    """

    def __init__(self, task: Any, pipe: Connection, seconds: float, cuda: bool) -> None:
        self.pipe, self.seconds, self.cuda = pipe, seconds, cuda
        self.result: dict[str, Any] = {"steps": 0, "seconds": 0.0, "begin_seconds": 0.0}
        self._begun, self._first = 0.0, 0
        self._until = 0.0
        prepare = task.prepare

        def timed() -> None:
            start = self._now()
            prepare()
            self.result["begin_seconds"] = self._now() - start

        vars(task)["prepare"] = timed

    def callback(self) -> Any:
        """A callback that reports a Trainer's chunks to this timer."""
        import pytorch_lightning as pl

        timer = self

        class Chunks(pl.Callback):
            def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
                timer.begin(module.batches_done)

            def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
                timer.end(module.batches_done)

        return Chunks()

    def begin(self, steps: int) -> None:
        """A chunk begins after ``steps`` steps of the training."""
        self._begun, self._first = self._now(), steps

    def end(self, steps: int) -> None:
        """A chunk ends after ``steps`` steps of the training.

        Raises:
            TimeUp: the time is over.
        """
        now = self._now()
        if self._until:
            self.result["seconds"] += now - self._begun
            self.result["steps"] += steps - self._first
            if now >= self._until:
                raise TimeUp
        elif steps >= WARM_UP["cuda" if self.cuda else "cpu"]:
            self.pipe.send(READY)
            self.pipe.recv()
            self._until = time.perf_counter() + self.seconds

    def _now(self) -> float:
        if self.cuda:
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()
