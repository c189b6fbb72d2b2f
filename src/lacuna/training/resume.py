"""Resuming a killed run so that nobody can tell: bit for bit on the CPU, history included.

Lightning's own hooks come too early to be exact: in ``on_train_batch_end`` the step is not logged yet and the
module's own hook has not run; in ``on_train_epoch_end`` the epoch's metrics are not logged and plateau schedules have
not stepped. :class:`Resume` therefore listens at the *ends of the loops themselves*, when everything about a
batch or an epoch is done and nothing of the next has begun.
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

State = dict[str, Any]
Listener = Callable[[pl.Trainer], None]


@runtime_checkable
class TrainingState(Protocol):
    """A submodule with state that belongs to the training and not to the model (so it is in no state_dict)."""

    def training_state(self) -> dict[str, Any]:
        """Plain values and tensors: what a checkpoint keeps."""

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`training_state` gave."""


class Resume(Callback):
    """Saves ``folder/last.ckpt`` at every epoch's end and between batches, and brings a fit back from it.

    Use: ``trainer.fit(module, ..., ckpt_path=resume.latest(), weights_only=True)``.

    A checkpoint holds what Lightning saves and, for every rank, the RNG states (torch CPU and CUDA, NumPy,
    Python), the state of every :class:`TrainingState` submodule, the loaders' positions, the flag of early stopping
    and the length of the history, so that :class:`DiskLogger` drops what a dead run logged after its last checkpoint.

    Loaders take part through ``set_epoch(e)`` (called before each epoch) and ``state_dict`` / ``load_state_dict``. A
    loader without the latter is saved at epoch ends only. No mid-epoch checkpoint is taken where it could not be exact:
    inside an accumulation of gradients, or on a batch followed by a validation. Nor is one taken while a
    weight or a running mean is not finite: the last good one stays.

    An interrupt (SIGINT, SIGTERM) waits for the end of the batch, is followed by a checkpoint, and only then raises
    KeyboardInterrupt: see :class:`lacuna.training.interrupts.Interrupts`.
    """

    def __init__(self, folder: Path | str, recipe_hash: str, every_seconds: float = 60.0) -> None:
        super().__init__()
        self.path = Path(folder) / LAST
        self.recipe_hash = recipe_hash
        self.every_seconds = every_seconds
        self.interrupts = Interrupts()
        self._saved_at = time.monotonic()
        self._restored: dict[str, Any] | None = None
        self._checked = False

    def latest(self) -> Path | None:
        """The checkpoint to start from, verified; None where there is none."""
        if not self.path.exists():
            return None
        load(self.path, self.recipe_hash)
        return self.path

    # Lightning's hooks

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listen at the loops' ends."""
        if stage != "fit":
            return
        if trainer.max_steps != -1:
            raise ValueError("Resume counts epochs: give the Trainer max_epochs, not max_steps.")
        self._restored, self._checked, self._saved_at = None, False, time.monotonic()
        epochs, batches = trainer.fit_loop, trainer.fit_loop.epoch_loop
        _listen(epochs, "on_advance_start", before=self._epoch_begins)
        _listen(epochs, "on_advance_end", after=self._epoch_ended)
        _listen(batches, "on_advance_end", after=self._batch_ended)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop listening."""
        if stage == "fit":
            for loop in (trainer.fit_loop, trainer.fit_loop.epoch_loop):
                for name in ("on_advance_start", "on_advance_end"):
                    vars(loop).pop(name, None)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Interrupts stop what comes after the training at once; its last checkpoint is there."""
        if self._agreed(trainer, self.interrupts.asked):
            self.interrupts.answer()
        self.interrupts.remove()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """There is nothing more to save."""
        self.interrupts.remove()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Without a checkpoint, drop what an earlier attempt wrote to the history."""
        if self._restored is None:
            for logger in _disk_loggers(trainer):
                logger.drop_inherited()
        if trainer.world_size > 1:  # the parent waits less long for ranks than for a process of its own
            self.interrupts.patience = PATIENCE / 2
        self.interrupts.install()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: State) -> None:
        """Add what Lightning leaves out."""
        parts = {name: part for name, part in pl_module.named_modules() if isinstance(part, TrainingState)}
        mine = {
            "rng": random_state(pl_module.device),
            # on the CPU: no rank is to open the devices of the others
            "modules": {name: move_data_to_device(part.training_state(), "cpu") for name, part in parts.items()},
        }
        epoch: Any = trainer.fit_loop.epoch_progress.current
        checkpoint[KEY] = {
            "recipe": self.recipe_hash,
            "ranks": distributed.of_all_ranks(mine),
            "loaders": [loader.state_dict() if _stateful(loader) else None for loader in _loaders(trainer)],
            "mid_epoch": epoch.processed != epoch.ready,
            "should_stop": bool(trainer.should_stop),
            "history": [logger.lines for logger in _disk_loggers(trainer)],
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: State) -> None:
        """Take it back; RNG and loaders once more right before the first batch."""
        state = checkpoint.get(KEY)
        if not isinstance(state, dict) or state.get("recipe") != self.recipe_hash:
            raise LacunaError(f"{self.path} is not a checkpoint of recipe {self.recipe_hash}.")
        if len(state["ranks"]) != trainer.world_size:
            raise LacunaError(
                f"{self.path} was written by {len(state['ranks'])} processes and cannot go on exactly with "
                f"{trainer.world_size}: use as many devices as before, or delete it to start afresh."
            )
        self._restored = state
        mine = state["ranks"][trainer.global_rank]
        for name, part in pl_module.named_modules():
            if isinstance(part, TrainingState) and name in mine["modules"]:
                part.load_training_state(mine["modules"][name])
        for logger, lines in zip(_disk_loggers(trainer), state["history"], strict=False):
            logger.truncate(lines)
        # Lightning resets the flag before it loads; a fit that was to stop must not train another epoch.
        trainer.should_stop = state["should_stop"]
        set_random_state(mine["rng"], pl_module.device)

    # The loops' ends

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
            # Lightning made its iterator before the loaders knew where they stand.
            iter(loop._data_fetcher)
            set_random_state(state["ranks"][trainer.global_rank]["rng"], trainer.lightning_module.device)

    def _batch_ended(self, trainer: pl.Trainer) -> None:
        loop = trainer.fit_loop.epoch_loop
        # Lightning calls the whole resumed epoch "restarting" and then leaves out its plateau schedules.
        trainer.fit_loop._restarting = False
        if not self._checked:
            self._refuse_epoch_sums(trainer)
        due, asked = self._due(trainer)
        if not due or loop._should_accumulate() or loop._num_ready_batches_reached():
            return
        fetcher = trainer.fit_loop._data_fetcher
        if fetcher is None or loop._should_check_val_fx(fetcher) or not all(map(_stateful, _loaders(trainer))):
            return
        self._save(trainer)
        if asked:
            self.interrupts.answer()

    def _epoch_ended(self, trainer: pl.Trainer) -> None:
        self._save(trainer)
        if self._agreed(trainer, self.interrupts.asked):
            self.interrupts.answer()

    def _due(self, trainer: pl.Trainer) -> tuple[bool, bool]:
        """Whether it is time for a checkpoint, and whether it is to be the last one."""
        asked = self.interrupts.asked
        due = asked or time.monotonic() - self._saved_at >= self.every_seconds
        # All ranks must agree, and asking costs a broadcast: do it now and then only.
        if trainer.world_size > 1 and trainer.fit_loop.epoch_loop.batch_idx % 50:
            return False, False
        found: tuple[bool, bool] = self._agreed(trainer, (due, asked))
        return found

    @staticmethod
    def _agreed(trainer: pl.Trainer, value: Any) -> Any:
        """What the first rank says."""
        return value if trainer.world_size == 1 else trainer.strategy.broadcast(value)

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved_at = time.monotonic()
        # the ranks must agree, for saving is a meeting of all of them: their means differ
        if not trainer.strategy.reduce_boolean_decision(_finite(trainer.lightning_module), all=True):
            return
        if trainer.is_global_zero:
            with replacing(self.path) as temporary:
                trainer.save_checkpoint(temporary)
        else:
            trainer.save_checkpoint(self.path)
        self._saved_at = time.monotonic()

    def _refuse_epoch_sums(self, trainer: pl.Trainer) -> None:
        """The sums behind ``log(on_epoch=True)`` in training_step are in no checkpoint: a wrong history, silently."""
        self._checked = True
        for result in (trainer.fit_loop.epoch_loop._results or {}).values():
            if result.meta.on_epoch:
                raise ValueError(
                    f"{result.meta.name!r} is logged during the epoch with on_epoch=True, so it cannot resume exactly: "
                    "use lacuna.tasks.common.running_mean.RunningMean and log its mean in on_train_epoch_end."
                )


def _listen(loop: Any, name: str, *, before: Listener | None = None, after: Listener | None = None) -> None:
    """Have ``before(trainer)`` and ``after(trainer)`` called around every call of a loop's method."""
    vars(loop).pop(name, None)
    original: Callable[..., None] = getattr(loop, name)

    def listened(*arguments: Any) -> None:
        if before is not None:
            before(loop.trainer)
        original(*arguments)
        if after is not None:
            after(loop.trainer)

    setattr(loop, name, listened)


def _finite(module: torch.nn.Module) -> bool:
    """Whether every trained weight and every running mean is, which ends a run whenever it goes on; one question."""
    weights = [weight.detach() for weight in module.parameters() if weight.requires_grad and weight.numel()]
    totals = [part.total for part in module.modules() if isinstance(part, RunningMean) and part.total is not None]
    # the largest magnitudes: unlike a sum of squares they cannot overflow
    found = [*torch._foreach_norm(weights, math.inf), *totals] if weights else totals
    return not found or bool(torch.stack([value.isfinite() for value in found]).all())


def _loaders(trainer: pl.Trainer) -> list[Any]:
    combined = trainer.fit_loop._combined_loader
    return list(combined.flattened) if combined is not None else []


def _stateful(loader: Any) -> bool:
    return callable(getattr(loader, "state_dict", None)) and callable(getattr(loader, "load_state_dict", None))


def _disk_loggers(trainer: pl.Trainer) -> list[DiskLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, DiskLogger)]
