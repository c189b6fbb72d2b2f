"""Training and evaluation of one run in this process, and storing its results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.plugins import TorchSyncBatchNorm
from pytorch_lightning.strategies import DDPStrategy

from lacuna import files
from lacuna.data.hashing import key
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.tasks.base import Task
from lacuna.tasks.common import distributed
from lacuna.tasks.common.models import save_weights
from lacuna.tasks.common.precision import default_type
from lacuna.training.loading import make_task, on_cuda, open_data
from lacuna.training.loggers import DiskLogger
from lacuna.training.measure import measure
from lacuna.training.mirrors.run_mirrors import RunMirrors, mirrored
from lacuna.training.profiling import announce_profile, make_profiler
from lacuna.training.progress import QUIET_TRAINER, Progress, quiet_lightning
from lacuna.training.resume import Resume
from lacuna.training.speed import determinism, set_speed
from lacuna.training.synced_norm import SyncedNorms
from lacuna.training.watch import Watch


def perform(recipe: Recipe, settings: Settings) -> None:
    """Train and evaluate in this process, alone or as one rank of several.

    Args:
        recipe: of the run.
        settings: where and on what device; the caller holds the lock of the run's folder.

    Raises:
        LacunaError: a metric is not finite, or the results cannot be stored.
    """
    with default_type(recipe.config), determinism(settings):
        _perform(recipe, settings)


def _perform(recipe: Recipe, settings: Settings) -> None:
    folder = RunFolder.of(settings.output, recipe)
    quiet_lightning()
    torch.manual_seed(recipe.config["seed"])
    with mirrored(recipe, settings, here=distributed.rank() == 0) as mirrors:
        if recipe.measured:
            measure(recipe, settings, folder, mirrors)
        else:
            _train(recipe, settings, folder, mirrors)


def _train(recipe: Recipe, settings: Settings, folder: RunFolder, mirrors: RunMirrors) -> None:
    data = open_data(recipe, settings)
    task = make_task(recipe, settings, data)
    if distributed.ranks() > 1:  # so that dropout and noise differ between ranks
        torch.manual_seed(key("rank", recipe.config["seed"], distributed.rank()))
    resume = Resume(folder.checkpoints, recipe.identity, settings.option("checkpoint_seconds", 60))
    latest = resume.latest()
    if recipe.training:
        loggers = [DiskLogger(folder.path, then=mirrors.line)] if distributed.rank() == 0 else []
        trainer = _trainer(recipe, settings, loggers, resume, Watch.of(mirrors))
        set_speed(task, recipe, settings)
        _fit(trainer, task, data, latest)
    else:  # it is fitted, not trained by steps
        task.to(data.device)
        task.prepare()
    announce_profile(settings, folder.path, trained=bool(recipe.training))
    distributed.on_first_rank(lambda: _store_results(task, data, folder))
    mirrors.conclude()


def _fit(trainer: pl.Trainer, task: Task, data: IncompleteData, latest: Path | None) -> None:
    try:
        trainer.fit(task, datamodule=data, ckpt_path=latest, weights_only=True)
    except SystemExit as error:  # Lightning turns Ctrl-C into SystemExit
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


def _store_results(task: Task, data: IncompleteData, folder: RunFolder) -> None:
    """Store weights, pictures and, last, the metrics that mark the run as finished."""
    task.to(data.device)
    recipe = folder.recipe
    results = task.results()
    not_finite = [name for name, value in results.items() if not math.isfinite(value)]
    if not_finite:
        lr, component = recipe.training.get("lr"), task.component
        advice = f"lower {component}.training.lr (now {lr})" if lr else f"change the settings of the {component}"
        raise LacunaError(f"{not_finite[0]} came out as {results[not_finite[0]]}: {advice}.")
    files.write_json(folder.path / "model.json", task.sizes.plain())
    save_weights(folder.path / "model.safetensors", task.model, task.prerequisites, recipe.identity)
    task.draw(folder.pictures)
    record = {"metrics": results, "data": _data_record(data), "budget": recipe.config["budget"]}
    folder.finish(record | ({"protocols": task.protocols} if task.protocols else {}))


def _data_record(data: IncompleteData) -> dict[str, Any]:
    """The images behind the metrics; ``complete``: all test images of the published set."""
    provenance = data.provenance
    used = {name: len(data.positions(name)[1]) for name in ("train", "test")}
    return {
        "name": provenance.name,
        "fingerprint": provenance.fingerprint,
        "complete": provenance.complete and used["test"] == provenance.counts["test"],
        "lossless": provenance.lossless,
        "note": provenance.note,
        "images": used,
        "stored": dict(provenance.counts),
    }


def _trainer(
    recipe: Recipe, settings: Settings, loggers: list[Any], resume: Resume, watching: Sequence[pl.Callback] = ()
) -> pl.Trainer:
    callbacks: list[pl.Callback] = [resume, *watching]
    if settings.option("progress", True) and distributed.rank() == 0:
        callbacks.append(Progress(recipe.group))
    try:
        return pl.Trainer(
            **_devices(settings),
            max_epochs=recipe.training["epochs"],
            precision=recipe.config["precision"],
            profiler=make_profiler(settings, resume.path.parents[1]),
            logger=loggers,
            callbacks=callbacks,
            limit_val_batches=0,
            use_distributed_sampler=False,
            # under SLURM Lightning loads any hpc_ckpt_*.ckpt that lies in this folder
            default_root_dir=resume.path.parent,
            **QUIET_TRAINER,
        )
    except (ValueError, ModuleNotFoundError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        raise LacunaError(f"trainer.* or precision cannot be used on this machine: {reason}") from error


def _devices(settings: Settings) -> dict[str, Any]:
    """The Trainer's arguments for one device, or for this rank of several."""
    if distributed.ranks() == 1:
        # said, not detected: under SLURM or torchrun Lightning would take their variables for a plan of its processes
        alone = LightningEnvironment()
        return {"accelerator": settings.option("accelerator", "auto"), "devices": 1, "plugins": [alone]}
    cuda = on_cuda(settings)
    # without find_unused_parameters, gradients are packed in another order after the first step, and a resumed run
    # would differ from an uninterrupted one in the last digit
    strategy = DDPStrategy(cluster_environment=LightningEnvironment(), find_unused_parameters=True)
    return {
        "accelerator": "cuda" if cuda else "cpu",
        "devices": distributed.ranks(),
        "strategy": strategy,
        "plugins": [TorchSyncBatchNorm() if cuda else SyncedNorms()],
    }
