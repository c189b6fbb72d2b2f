"""A process that times training steps of any task, with the real task, data module and Trainer, on random images."""

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
WARM_UP = {"cuda": 5, "cpu": 1}
"""Untimed steps at the start: memory is allocated and the fastest algorithms are chosen."""


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
    """

    config: Mapping[str, Any]
    root: Path
    output: Path
    seconds: float
    share: float
    accelerator: str
    threads: int


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
    import pytorch_lightning as pl
    import torch

    from lacuna.runs.recipe import Recipe
    from lacuna.runs.settings import Settings
    from lacuna.training.loading import make_task, on_cuda, open_data
    from lacuna.training.progress import QUIET_TRAINER

    recipe = Recipe(request.config)
    limits = {"cache_gb": 4 * request.share, "resident_gb": 8}
    settings = Settings(request.output, request.root, False, {"accelerator": request.accelerator, **limits})
    torch.set_num_threads(request.threads)
    torch.manual_seed(0)
    cuda = on_cuda(settings)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    data = open_data(recipe, settings)
    task = make_task(recipe, settings, data, untrained=True)
    task.cache_folder = None  # every request starts without caches
    timer = StepTimer(task, pipe, request.seconds, cuda)
    # what follows an epoch (validation, EM's new parameters, MCFlow's new imputations) is not part of a step
    vars(task)["on_train_epoch_end"] = lambda: None
    trainer = pl.Trainer(
        accelerator="cuda" if cuda else "cpu",
        devices=1,
        max_epochs=1_000_000,
        precision=recipe.config["precision"],
        logger=[],
        callbacks=[timer.callback()],
        limit_val_batches=0,
        use_distributed_sampler=False,
        **QUIET_TRAINER,
    )
    with contextlib.suppress(TimeUp):
        trainer.fit(task, datamodule=data)
    peak = torch.cuda.max_memory_allocated() if cuda else 0
    return timer.result | {"images": len(data.train), "bytes": peak}


class TimeUp(Exception):
    """Raised when the steps have been timed."""


class StepTimer:
    """Times steps within epochs. The first step of each epoch and the time between epochs are left out.

    Args:
        task: the task; its ``prepare`` is timed, too.
        pipe: gets ``READY`` after the warm-up; timing starts at a message from the other end.
        seconds: duration of the timing.
        cuda: whether to synchronise with the GPU before reading the clock.
    """

    def __init__(self, task: Any, pipe: Connection, seconds: float, cuda: bool) -> None:
        self.pipe, self.seconds, self.cuda = pipe, seconds, cuda
        self.result: dict[str, Any] = {"steps": 0, "seconds": 0.0, "begin_seconds": 0.0}
        self._count, self._steps = 0, 0
        self._mark: float | None = None
        self._until = 0.0
        prepare = task.prepare

        def timed() -> None:
            start = self._now()
            prepare()
            self.result["begin_seconds"] = self._now() - start

        vars(task)["prepare"] = timed

    def callback(self) -> Any:
        """A callback that reports a Trainer's steps to this timer."""
        import pytorch_lightning as pl

        timer = self

        class Steps(pl.Callback):
            def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
                timer.step(batch_idx, last=batch_idx + 1 >= trainer.num_training_batches)

        return Steps()

    def step(self, number: int, last: bool) -> None:
        """Count a step, with index ``number`` in its epoch.

        Raises:
            TimeUp: the time is over.
        """
        self._count += 1
        if self._count < WARM_UP["cuda" if self.cuda else "cpu"]:
            return
        if not self._until:
            self._now()
            self.pipe.send(READY)
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
            self.result["seconds"] += now - self._mark
            self.result["steps"] += self._steps
            self._mark, self._steps = None, 0
            if over or now >= self._until:
                raise TimeUp

    def _now(self) -> float:
        if self.cuda:
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()
