"""Exact resuming: an interrupted run ends as an uninterrupted one, bit for bit on the CPU, history included.

Lightning's own hooks come too early for that: in ``on_train_batch_end`` the step is not logged yet and the module's own
hook has not run; in ``on_train_epoch_end`` the epoch's metrics are not logged and plateau schedules have not stepped.
:class:`Resume` therefore saves at the ends of Lightning's loops, when a batch or epoch is finished and the next has not
begun.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from pytorch_lightning.callbacks import Callback

from lacuna.errors import LacunaError
from lacuna.files import replacing
from lacuna.tasks.common import distributed
from lacuna.tasks.common.running_mean import RunningMean
from lacuna.training.checkpoint import KEY, LAST, load
from lacuna.training.interrupts import PATIENCE, Interrupts
from lacuna.training.loggers import DiskLogger
from lacuna.training.random_state import random_state, set_random_state

SHARE = 0.01
"""Share of the time that checkpoints at ends of epochs may take."""

State = dict[str, Any]
Listener = Callable[[pl.Trainer], None]


@runtime_checkable
class TrainingState(Protocol):
    """A submodule with state of the training, which is not part of the model and in no ``state_dict``."""

    def training_state(self) -> dict[str, Any]:
        """Plain values and tensors for a checkpoint."""

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore a state from :meth:`training_state`."""


class Resume(Callback):
    """Saves ``folder/last.ckpt`` at ends of epochs and between batches, and resumes a fit from it.

    After ``every_seconds`` a checkpoint is due. At the end of an epoch it is due earlier, as long as saving takes less
    than ``SHARE`` of the time, and after the last epoch always.

    Use: ``trainer.fit(module, ..., ckpt_path=resume.latest(), weights_only=True)``.

    A checkpoint holds what Lightning saves and, for every rank, the RNG states (torch CPU and CUDA, NumPy,
    Python), the state of every :class:`TrainingState` submodule, the loaders' positions, the flag of early stopping
    and the length of the history, so that :class:`DiskLogger` drops what was logged after the last checkpoint.

    Loaders take part through ``set_epoch(e)`` (called before each epoch) and ``state_dict`` / ``load_state_dict``. A
    loader without the latter is saved at epoch ends only. No mid-epoch checkpoint is taken where it could not be exact:
    inside an accumulation of gradients, or on a batch followed by a validation. Nor is one taken while a
    weight or a running mean is not finite: the last good one stays.

    An interrupt (SIGINT, SIGTERM, under SLURM SIGUSR1) waits for the end of the batch, is followed by a checkpoint, and
    only then raises KeyboardInterrupt: see :class:`lacuna.training.interrupts.Interrupts`.
    """

    def __init__(self, folder: Path | str, recipe_hash: str, every_seconds: float = 60.0) -> None:
        super().__init__()
        self.path = Path(folder) / LAST
        self.recipe_hash = recipe_hash
        self.every_seconds = every_seconds
        self.interrupts = Interrupts()
        self._saved_at, self._save_seconds = time.monotonic(), 0.0
        self._restored: dict[str, Any] | None = None
        self._checked = False

    def latest(self) -> Path | None:
        """The checkpoint to resume from, checked; None where there is none."""
        if not self.path.exists():
            return None
        load(self.path, self.recipe_hash)
        return self.path

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Be called at the ends of the loops."""
        if stage != "fit":
            return
        if trainer.max_steps != -1:
            raise ValueError("Resume counts epochs: give the Trainer max_epochs, not max_steps.")
        self._restored, self._checked, self._saved_at = None, False, time.monotonic()
        epochs, batches = trainer.fit_loop, trainer.fit_loop.epoch_loop
        _call_around(epochs, "on_advance_start", before=self._epoch_begins)
        _call_around(epochs, "on_advance_end", after=self._epoch_ended)
        _call_around(batches, "on_advance_end", after=self._batch_ended)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Undo :meth:`setup`."""
        if stage == "fit":
            for loop in (trainer.fit_loop, trainer.fit_loop.epoch_loop):
                for name in ("on_advance_start", "on_advance_end"):
                    vars(loop).pop(name, None)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let interrupts stop at once what follows the training, after its last checkpoint."""
        if self._agreed(trainer, self.interrupts.requested):
            self.interrupts.stop()
        self.interrupts.remove()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the handlers of interrupts."""
        self.interrupts.remove()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Without a checkpoint, drop the history of an earlier attempt."""
        if self._restored is None:
            for logger in _disk_loggers(trainer):
                logger.drop_inherited()
        if trainer.world_size > 1:  # the parent process waits less long for ranks than for a single process
            self.interrupts.patience = PATIENCE / 2
        self.interrupts.install()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: State) -> None:
        """Add the states that Lightning does not save."""
        stateful = {name: module for name, module in pl_module.named_modules() if isinstance(module, TrainingState)}
        own_state = {
            "rng": random_state(pl_module.device),
            # on the CPU, so that no rank opens the devices of the others
            "modules": {name: move_data_to_device(part.training_state(), "cpu") for name, part in stateful.items()},
        }
        epoch: Any = trainer.fit_loop.epoch_progress.current
        checkpoint[KEY] = {
            "recipe": self.recipe_hash,
            "ranks": distributed.of_all_ranks(own_state),
            "loaders": [loader.state_dict() if _stateful(loader) else None for loader in _loaders(trainer)],
            "mid_epoch": epoch.processed != epoch.ready,
            "should_stop": bool(trainer.should_stop),
            "history": [logger.lines for logger in _disk_loggers(trainer)],
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: State) -> None:
        """Restore these states; RNG and loaders are restored again right before the first batch."""
        state = checkpoint.get(KEY)
        if not isinstance(state, dict) or state.get("recipe") != self.recipe_hash:
            raise LacunaError(f"{self.path} is not a checkpoint of recipe {self.recipe_hash}.")
        if len(state["ranks"]) != trainer.world_size:
            raise LacunaError(
                f"{self.path} was written by {len(state['ranks'])} processes and cannot be resumed exactly with "
                f"{trainer.world_size}: use as many devices as before, or delete it to start afresh."
            )
        self._restored = state
        own_state = state["ranks"][trainer.global_rank]
        for name, part in pl_module.named_modules():
            if isinstance(part, TrainingState) and name in own_state["modules"]:
                part.load_training_state(own_state["modules"][name])
        for logger, lines in zip(_disk_loggers(trainer), state["history"], strict=False):
            logger.truncate(lines)
        # Lightning resets the flag before it loads, but a fit that was to stop must not train another epoch
        trainer.should_stop = state["should_stop"]
        set_random_state(own_state["rng"], pl_module.device)

    def _epoch_begins(self, trainer: pl.Trainer) -> None:
        loop: Any = trainer.fit_loop
        epoch = loop.epoch_progress.current.processed
        state, self._restored = self._restored, {} if self._restored is not None else None
        loaders = _loaders(trainer)
        for number, loader in enumerate(loaders):
            if state and state["mid_epoch"]:
                loader.load_state_dict(state["loaders"][number])
            elif callable(getattr(loader, "set_epoch", None)):
                loader.set_epoch(epoch)
        if state:
            # Lightning made its iterator before the loaders' positions were restored
            iter(loop._data_fetcher)
            set_random_state(state["ranks"][trainer.global_rank]["rng"], trainer.lightning_module.device)

    def _batch_ended(self, trainer: pl.Trainer) -> None:
        loop = trainer.fit_loop.epoch_loop
        # in a "restarting" epoch Lightning leaves out plateau schedules
        trainer.fit_loop._restarting = False
        if not self._checked:
            self._refuse_epoch_sums(trainer)
        due, stop = self._due(trainer)
        if not due or loop._should_accumulate() or loop._num_ready_batches_reached():
            return
        if any(getattr(loader, "exhausted", False) for loader in _loaders(trainer)):  # chunks are fewer than batches
            return
        fetcher = trainer.fit_loop._data_fetcher
        if fetcher is None or loop._should_check_val_fx(fetcher) or not all(map(_stateful, _loaders(trainer))):
            return
        self._save(trainer)
        if stop:
            self.interrupts.stop()

    def _epoch_ended(self, trainer: pl.Trainer) -> None:
        epochs: Any = trainer.fit_loop.epoch_progress.current
        last = trainer.should_stop or epochs.processed >= (trainer.max_epochs or 0)
        soon = min(self.every_seconds, self._save_seconds / SHARE)
        stop = self.interrupts.requested
        due, stop = self._agreed(trainer, (stop or time.monotonic() - self._saved_at >= soon, stop))
        if due or last:
            self._save(trainer)
        if stop:
            self.interrupts.stop()

    def _due(self, trainer: pl.Trainer) -> tuple[bool, bool]:
        """Whether it is time for a checkpoint, and whether to stop after it."""
        stop = self.interrupts.requested
        due = stop or time.monotonic() - self._saved_at >= self.every_seconds
        # all ranks must agree, which takes a broadcast: not at every batch
        if trainer.world_size > 1 and trainer.fit_loop.epoch_loop.batch_idx % 50:
            return False, False
        found: tuple[bool, bool] = self._agreed(trainer, (due, stop))
        return found

    @staticmethod
    def _agreed(trainer: pl.Trainer, value: Any) -> Any:
        """The value of the first rank."""
        return value if trainer.world_size == 1 else trainer.strategy.broadcast(value)

    def _save(self, trainer: pl.Trainer) -> None:
        start = self._saved_at = time.monotonic()
        # all ranks take part in saving, so all must agree; their running means differ
        if not trainer.strategy.reduce_boolean_decision(_finite(trainer.lightning_module), all=True):
            return
        if trainer.is_global_zero:
            with replacing(self.path) as temporary:
                trainer.save_checkpoint(temporary)
        else:
            trainer.save_checkpoint(self.path)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - start

    def _refuse_epoch_sums(self, trainer: pl.Trainer) -> None:
        """Refuse ``log(on_epoch=True)`` in training_step: its sums are in no checkpoint, so they would be lost."""
        self._checked = True
        for result in (trainer.fit_loop.epoch_loop._results or {}).values():
            if result.meta.on_epoch:
                raise ValueError(
                    f"{result.meta.name!r} is logged during the epoch with on_epoch=True, so it cannot resume exactly: "
                    "use lacuna.tasks.common.running_mean.RunningMean and log its mean in on_train_epoch_end."
                )


def _call_around(loop: Any, name: str, *, before: Listener | None = None, after: Listener | None = None) -> None:
    """Call ``before(trainer)`` and ``after(trainer)`` around every call of a loop's method."""
    vars(loop).pop(name, None)
    original: Callable[..., None] = getattr(loop, name)

    def wrapped(*arguments: Any) -> None:
        if before is not None:
            before(loop.trainer)
        original(*arguments)
        if after is not None:
            after(loop.trainer)

    setattr(loop, name, wrapped)


def _finite(module: torch.nn.Module) -> bool:
    """Whether every trained weight and running mean is finite; one synchronisation with the device."""
    weights = [weight.detach() for weight in module.parameters() if weight.requires_grad and weight.numel()]
    totals = [part.total for part in module.modules() if isinstance(part, RunningMean) and part.total is not None]
    # largest magnitudes, because a sum of squares could overflow
    found = [*torch._foreach_norm(weights, math.inf), *totals] if weights else totals
    return not found or bool(torch.stack([value.isfinite() for value in found]).all())


def _loaders(trainer: pl.Trainer) -> list[Any]:
    combined = trainer.fit_loop._combined_loader
    return list(combined.flattened) if combined is not None else []


def _stateful(loader: Any) -> bool:
    return callable(getattr(loader, "state_dict", None)) and callable(getattr(loader, "load_state_dict", None))


def _disk_loggers(trainer: pl.Trainer) -> list[DiskLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, DiskLogger)]
