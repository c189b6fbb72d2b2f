"""How and where to run: the settings that are not in a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lacuna.errors import LacunaError

LOGGERS = ("disk", "wandb")


@dataclass(frozen=True)
class Settings:
    """Folders, and the ``trainer`` and ``logger`` groups of the config.

    Args:
        output: folder of runs.
        data_root: folder of prepared data.
        download: whether data may be downloaded.
        trainer: the config group.
        logger: the config group.

    Raises:
        LacunaError: a value is out of its range.
    """

    output: Path = Path("outputs")
    data_root: Path = Path("outputs/data")
    download: bool = True
    trainer: Mapping[str, Any] = field(default_factory=dict)
    logger: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = self.logger.get("name", "disk")
        if name not in LOGGERS:
            raise LacunaError(f"logger.name={name} is neither disk nor wandb: choose with logger=disk or logger=wandb.")
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
        )

    @property
    def devices(self) -> int:
        """Number of devices that train one run; several have a process each."""
        return int(self.option("devices", 1))

    def option(self, name: str, default: Any) -> Any:
        """The value of a key of ``trainer``, or ``default`` where it is null or missing."""
        value = self.trainer.get(name)
        return default if value is None else value
