"""How and where to run: the settings that are not in a recipe."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lacuna import plugins
from lacuna.errors import LacunaError
from lacuna.runs.mirror_options import MirrorOptions


@dataclass(frozen=True)
class Settings:
    """Folders, and the ``trainer`` and ``logger`` groups of the config.

    Args:
        output: folder of runs.
        data_root: folder of prepared data.
        download: whether data may be downloaded.
        trainer: the config group.
        logger: the config group.
        plugins: packages of others that may be imported, for workers have to import them, too.

    Raises:
        LacunaError: a value is out of its range.
    """

    output: Path = Path("outputs")
    data_root: Path = Path("outputs/data")
    download: bool = True
    trainer: Mapping[str, Any] = field(default_factory=dict)
    logger: Mapping[str, Any] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _ = self.mirrors  # fails here if the config is wrong
        minimum = {"eval_batch_size": 1, "checkpoint_seconds": 0, "resident_gb": 0, "cache_gb": 0}
        for key, smallest in minimum.items():
            value = self.option(key, smallest)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < smallest:
                raise LacunaError(f"trainer.{key}={value} must be a number of at least {smallest}.")
        if self.option("fast_dev_run", False):
            raise LacunaError("trainer.fast_dev_run tries one run: only train.py takes it.")
        devices = self.option("devices", 1)
        if type(devices) is not int or devices < 1:
            raise LacunaError(f"trainer.devices={devices} must be a whole number of at least 1.")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """From a composed config."""
        for key, value in (("output", config["output"]), ("data.root", config["data"]["root"])):
            if not value:
                raise LacunaError(f"{key} is empty: set it to a folder.")
        return cls(
            output=Path(config["output"]),
            data_root=Path(config["data"]["root"]),
            download=bool(config["data"]["download"]),
            trainer=config["trainer"],
            logger=config.get("logger", {}),
            plugins=plugins.package_names(config.get("plugins", ())),
        )

    @cached_property
    def mirrors(self) -> MirrorOptions:
        """What the runs are mirrored to: the group ``logger``, checked."""
        return MirrorOptions.of(self.logger)

    def labelled(self, group: str, tags: Iterable[str] = ()) -> Settings:
        """The same for runs that dashboards list together, unless the user has named a group; with more tags."""
        if not self.mirrors.names:
            return self
        logger = {**self.logger, "group": self.mirrors.group or group}
        return dataclasses.replace(self, logger={**logger, "tags": list(dict.fromkeys([*self.mirrors.tags, *tags]))})

    def of_prerequisites(self) -> Settings:
        """The settings of the runs that a run needs: an agent of a W&B sweep has one run of W&B for all of them."""
        if "WANDB_SWEEP_ID" not in os.environ or "wandb" not in self.mirrors.names:
            return self
        names = [name for name in self.mirrors.names if name != "wandb"]
        return dataclasses.replace(self, logger={**self.logger, "mirrors": names, "artifacts": None})

    @property
    def devices(self) -> int:
        """Number of devices that train one run; several have a process each."""
        return int(self.option("devices", 1))

    def option(self, name: str, default: Any) -> Any:
        """The value of a key of ``trainer``, or ``default`` where it is null or missing."""
        value = self.trainer.get(name)
        return default if value is None else value
