"""One run, from recipe to metrics: what it needs first, training, resuming, judging, and the record of it all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from lacuna import files
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError
from lacuna.registry import build
from lacuna.runs import environment
from lacuna.runs.checkpoint import Resume
from lacuna.runs.folder import RunFolder
from lacuna.runs.logging import DiskLogger, WandbMirror, wandb_logger
from lacuna.runs.progress import QUIET_TRAINER, Progress, quiet_lightning
from lacuna.runs.recipe import Recipe
from lacuna.tasks.base import Task
from lacuna.tasks.models import Sizes, build_classifier, build_density, load_weights, save_weights


@dataclass(frozen=True)
class Settings:
    """How and where to run: everything that is not in a recipe."""

    output: Path = Path("outputs")
    data_root: Path = Path("outputs/data")
    download: bool = True
    trainer: Mapping[str, Any] = field(default_factory=dict)
    logger: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """From a composed configuration."""
        return cls(
            output=Path(config["output"]),
            data_root=Path(config["data"]["root"]),
            download=bool(config["data"]["download"]),
            trainer=config["trainer"],
            logger=config.get("logger", {}),
        )

    def option(self, name: str, default: Any) -> Any:
        """One key of ``trainer``."""
        value = self.trainer.get(name)
        return default if value is None else value


def execute(recipe: Recipe, settings: Settings, *, announce: bool = True) -> RunFolder:
    """Run a recipe, unless that was done before; what it needs is run first.

    Returns the finished run. Interrupted runs resume; two processes asking for the same run share one.

    Raises:
        LacunaError: a mistake in the recipe, the data or the machine (no space, say).
    """
    folder = RunFolder.of(settings.output, recipe)
    if folder.finished:
        folder.settle()
        _say(announce, f"finished before: {folder.path}")
        return folder
    for needed in recipe.needs.values():
        execute(needed, settings, announce=announce)
    with folder.locked():
        if folder.finished:  # another process was faster
            _say(announce, f"finished by another process: {folder.path}")
            return folder
        with folder.recorded(recipe, environment.describe()):
            _say(announce, f"{'resuming' if any(folder.checkpoints.glob('*.ckpt')) else 'training'}: {folder.path}")
            _run(recipe, settings, folder)
    return folder


def _run(recipe: Recipe, settings: Settings, folder: RunFolder) -> None:
    quiet_lightning()
    torch.manual_seed(recipe.content["seed"])
    data = open_data(recipe, settings)
    task = make_task(recipe, settings, data)
    resume = Resume(folder.checkpoints, recipe.identity, settings.option("checkpoint_seconds", 60))
    latest = resume.latest()
    mirrors = _mirrors(recipe, settings, folder)
    exit_code = 1
    try:
        trainer = _trainer(recipe, settings, [DiskLogger(folder.path), *mirrors], resume)
        if settings.option("compile", False):
            task.model.compile()
        _fit(trainer, task, data, latest)
        if trainer.is_global_zero:
            _conclude(task, data, folder, mirrors)
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
    """Store weights, pictures and, last, the metrics that mark the run as done."""
    task.to(data.device)
    files.write_json(folder.path / "model.json", task.sizes.plain())
    save_weights(folder.path / "model.safetensors", task.model, task.parts, folder.recipe.identity)
    results = task.results()
    for name, picture in task.draw(folder.pictures).items():
        for mirror in mirrors:
            mirror.log_images(name, picture)
    for mirror in mirrors:
        mirror.log_summary(results)
    provenance = data.provenance
    counts = {name: len(data.positions(name)[1]) for name in ("train", "test")}
    record = {
        "name": provenance.name,
        "fingerprint": provenance.fingerprint,
        "complete": provenance.complete,
        "lossless": provenance.lossless,
        "note": provenance.note,
        "images": counts,
    }
    folder.finish({"metrics": results, "data": record, "recipe": task.content["version"]})


def open_data(recipe: Recipe, settings: Settings, mask: Mapping[str, Any] | None = None) -> IncompleteData:
    """The incomplete images of a recipe (or behind another mask).

    Raises:
        LacunaError: the data at hand are not those the recipe was made with.
    """
    content = recipe.content
    accelerator = settings.option("accelerator", "auto")
    cuda = torch.cuda.is_available() and accelerator in ("auto", "cuda", "gpu")
    data = IncompleteData(
        {key: value for key, value in content["data"].items() if key != "fingerprint"},
        mask or content["mask"],
        root=settings.data_root,
        download=settings.download,
        batch_size=recipe.training["batch_size"],
        eval_batch_size=settings.option("eval_batch_size", 250),
        seed=content["seed"],
        device="cuda" if cuda else "cpu",
        resident_bytes=int(settings.option("resident_gb", 8) * 1e9),
    )
    if data.provenance.fingerprint != content["data"]["fingerprint"]:
        raise LacunaError(
            f"The data in {settings.data_root} (fingerprint {data.provenance.fingerprint}) are not those of this run "
            f"({content['data']['fingerprint']}): set data.root to where those are, or start a new run."
        )
    return data


def make_task(recipe: Recipe, settings: Settings, data: IncompleteData, runs: Path | None = None) -> Task:
    """The LightningModule of a recipe, on top of the finished runs it needs (in ``runs``, by default the output's)."""
    runs = runs or settings.output / "runs"
    # a user's splits may differ: masks per channel in one, shared masks in another
    splits = [data.train, data.test, *([data.validation] if data.has_validation else [])]
    sizes = Sizes(data.shape, data.classes, max(images.batch([0]).mask.shape[1] for images in splits))
    parts = {name: load(RunFolder(runs / needed.name)) for name, needed in recipe.needs.items()}
    task: Task = build(
        "task",
        recipe.content["task"],
        content=recipe.content,
        sizes=sizes,
        parts=parts,
        data=data,
        eval_batch_size=settings.option("eval_batch_size", 250),
        cache_bytes=settings.option("cache_gb", 4) * 1e9,
    )
    return task


def load(folder: RunFolder) -> nn.Module:
    """The trained model of a finished run, in evaluation mode: a density or a classifier.

    Raises:
        LacunaError: the run is not finished, or its files are damaged.
    """
    if not folder.finished:
        raise LacunaError(f"{folder.path} is not finished: run its train command again to finish it.")
    recipe = folder.recipe
    sizes = Sizes.of(files.read_json(folder.path / "model.json"))
    runs = folder.path.parent
    parts = {name: load(RunFolder(runs / needed.name)) for name, needed in recipe.needs.items()}
    if recipe.task == "density":
        model: nn.Module = build_density(recipe.content, sizes)
    else:
        model = build_classifier(recipe.content, sizes, parts)
    load_weights(folder.path / "model.safetensors", model, parts, recipe.identity)
    return model.requires_grad_(False).eval()


def _trainer(recipe: Recipe, settings: Settings, loggers: list[Any], resume: Resume) -> pl.Trainer:
    callbacks: list[pl.Callback] = [resume]
    if settings.option("progress", True):
        callbacks.append(Progress(recipe.group))
    try:
        return pl.Trainer(
            max_epochs=recipe.training["epochs"],
            accelerator=settings.option("accelerator", "auto"),
            devices=1,
            precision=recipe.content["precision"],
            logger=loggers,
            callbacks=callbacks,
            limit_val_batches=0,
            use_distributed_sampler=False,
            **QUIET_TRAINER,
        )
    except (ValueError, ModuleNotFoundError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        raise LacunaError(f"trainer.* or precision asks for what cannot be had here: {reason}") from error


def _mirrors(recipe: Recipe, settings: Settings, folder: RunFolder) -> list[WandbMirror]:
    spec = settings.logger
    name = spec.get("name", "disk")
    if name not in ("disk", "wandb"):
        raise LacunaError(f"logger.name={name} is neither disk nor wandb: choose with logger=disk or logger=wandb.")
    if name == "disk":
        return []
    mirror = wandb_logger(
        run_id=recipe.identity,
        name=folder.path.name,
        group=spec.get("group") or recipe.group,
        tags=[recipe.task, recipe.content["data"]["name"], *spec.get("tags", ())],
        config=dict(recipe.content),
        folder=folder.path,
        offline=spec.get("offline"),
        project=spec.get("project", "lacuna"),
    )
    return [mirror]


def _say(announce: bool, text: str) -> None:
    if announce:
        print(text, flush=True)
