"""The training of one run in this process: data, task, Trainer, and what is stored at its end."""

from __future__ import annotations

import math
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
from lacuna.training.loading import make_task, on_cuda, open_data
from lacuna.training.loggers import DiskLogger, WandbMirror, wandb_logger
from lacuna.training.measure import measure
from lacuna.training.progress import QUIET_TRAINER, Progress, quiet_lightning
from lacuna.training.resume import Resume
from lacuna.training.synced_norm import SyncedNorms


def perform(recipe: Recipe, settings: Settings) -> None:
    """Train and judge in this process, alone or as a rank; the lock and the record are the caller's.

    Raises:
        LacunaError: the training came to nothing, or its results cannot be stored.
    """
    folder = RunFolder.of(settings.output, recipe)
    quiet_lightning()
    torch.manual_seed(recipe.config["seed"])
    if recipe.measured:
        measure(recipe, settings, folder, _mirrors(recipe, settings, folder))
        return
    data = open_data(recipe, settings)
    task = make_task(recipe, settings, data)
    if distributed.ranks() > 1:  # what is dropped or drawn at random is another thing on every rank
        torch.manual_seed(key("rank", recipe.config["seed"], distributed.rank()))
    resume = Resume(folder.checkpoints, recipe.identity, settings.option("checkpoint_seconds", 60))
    latest = resume.latest()
    mirrors = _mirrors(recipe, settings, folder)
    exit_code = 1
    try:
        if recipe.training:
            loggers = [DiskLogger(folder.path), *mirrors] if distributed.rank() == 0 else []
            trainer = _trainer(recipe, settings, loggers, resume)
            if settings.option("compile", False):
                task.model.compile()
            _fit(trainer, task, data, latest)
        else:  # what is only fitted needs no steps
            task.to(data.device)
            task.prepare()
        distributed.on_first_rank(lambda: _conclude(task, data, folder, mirrors))
        exit_code = 0
    finally:
        for mirror in mirrors:
            mirror.close(exit_code)


def _fit(trainer: pl.Trainer, task: Task, data: IncompleteData, latest: Path | None) -> None:
    try:
        trainer.fit(task, datamodule=data, ckpt_path=latest, weights_only=True)
    except SystemExit as error:  # what Lightning makes of Ctrl-C
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


def _conclude(task: Task, data: IncompleteData, folder: RunFolder, mirrors: list[WandbMirror]) -> None:
    """Store weights, pictures and, last, the metrics that mark the run as done; then tell the mirrors."""
    task.to(data.device)
    recipe = folder.recipe
    results = task.results()
    wrong = [name for name, value in results.items() if not math.isfinite(value)]
    if wrong:
        lr = recipe.training.get("lr")
        made = task.component
        cure = f"lower {made}.training.lr (now {lr})" if lr else f"change the settings of the {made}"
        raise LacunaError(f"{wrong[0]} came out as {results[wrong[0]]}: {cure}.")
    files.write_json(folder.path / "model.json", task.sizes.plain())
    save_weights(folder.path / "model.safetensors", task.model, task.prerequisites, recipe.identity)
    pictures = task.draw(folder.pictures)
    record = {"metrics": results, "data": _data_record(data), "budget": recipe.config["budget"]}
    folder.finish(record | ({"protocols": task.protocols} if task.protocols else {}))
    for mirror in mirrors:
        for name, picture in pictures.items():
            mirror.log_images(name, picture)
        mirror.log_summary(results)


def _data_record(data: IncompleteData) -> dict[str, Any]:
    """Which images the numbers are about; ``complete`` means: all of the published set."""
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


def _trainer(recipe: Recipe, settings: Settings, loggers: list[Any], resume: Resume) -> pl.Trainer:
    callbacks: list[pl.Callback] = [resume]
    if settings.option("progress", True) and distributed.rank() == 0:
        callbacks.append(Progress(recipe.group))
    try:
        return pl.Trainer(
            **_devices(settings),
            max_epochs=recipe.training["epochs"],
            precision=recipe.config["precision"],
            logger=loggers,
            callbacks=callbacks,
            limit_val_batches=0,
            use_distributed_sampler=False,
            **QUIET_TRAINER,
        )
    except (ValueError, ModuleNotFoundError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        raise LacunaError(f"trainer.* or precision asks for what cannot be had here: {reason}") from error


def _devices(settings: Settings) -> dict[str, Any]:
    """The Trainer's arguments for the one device of this process, or for the ranks of which it is one."""
    if distributed.ranks() == 1:
        return {"accelerator": settings.option("accelerator", "auto"), "devices": 1}
    cuda = on_cuda(settings)
    # to look for unused weights costs little; without it gradients are packed in another order after the first step, so
    # that a resumed run would differ from an uninterrupted one in the last digit
    strategy = DDPStrategy(cluster_environment=LightningEnvironment(), find_unused_parameters=True)
    return {
        "accelerator": "cuda" if cuda else "cpu",
        "devices": distributed.ranks(),
        "strategy": strategy,
        "plugins": [TorchSyncBatchNorm() if cuda else SyncedNorms()],
    }


def _mirrors(recipe: Recipe, settings: Settings, folder: RunFolder) -> list[WandbMirror]:
    spec = settings.logger
    if spec.get("name") != "wandb" or distributed.rank():
        return []
    mirror = wandb_logger(
        run_id=recipe.identity,
        name=folder.path.name,
        group=spec.get("group") or f"{recipe.group}-{recipe.family}",
        tags=[recipe.task, recipe.config["data"]["name"], *spec.get("tags", ())],
        config=dict(recipe.config),
        folder=folder.path,
        offline=spec.get("offline"),
        project=spec.get("project", "lacuna"),
    )
    return [mirror]
