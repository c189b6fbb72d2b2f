"""The options of the mirrors of runs: the config group ``logger``, checked. Nothing here imports a mirror's package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lacuna.errors import LacunaError
from lacuna.extras import installed, require

PACKAGES = {"wandb": "wandb", "tensorboard": "tensorboard", "csv": "", "mlflow": "mlflow"}
"""Mirror -> the package that it needs, which has an extra of the same name; empty: none."""
ARTIFACTS: dict[Any, tuple[str, ...]] = {
    None: (),
    False: (),
    "none": (),
    "model": ("model",),
    "results": ("results",),
    "all": ("model", "results"),
}
"""``logger.artifacts`` -> the kinds of files that are stored with a run."""
STORES = ("wandb", "mlflow")
"""Mirrors that can store files."""


@dataclass(frozen=True)
class MirrorOptions:
    """What the runs are mirrored to, besides the history on disk, and what is shown there.

    Args:
        names: of the mirrors; none by default.
        project: of W&B; the experiment of MLflow.
        group: of the runs of one command; None: the recipe without its seed.
        tags: of all runs.
        offline: of W&B; None: where there is no key or no network.
        artifacts: the kinds of files to store with a run: ``model``, ``results``.
        pictures_every: epochs between two pictures of the training; 0: none, None: about ten in a training.
        tracking_uri: of MLflow; None: MLFLOW_TRACKING_URI, or files in ``output/mlruns``.
    """

    names: tuple[str, ...] = ()
    project: str = "lacuna"
    group: str | None = None
    tags: tuple[str, ...] = ()
    offline: bool | None = None
    artifacts: tuple[str, ...] = ()
    pictures_every: int | None = None
    tracking_uri: str | None = None

    @classmethod
    def of(cls, logger: Mapping[str, Any]) -> MirrorOptions:
        """From the config group ``logger``.

        Raises:
            LacunaError: a value out of its range, or a mirror whose package is not installed.
        """
        name = logger.get("name", "disk")
        names = logger.get("mirrors", [] if name == "disk" else [name])
        options = cls(
            names=_names(names),
            project=str(logger.get("project") or "lacuna"),
            group=None if logger.get("group") is None else str(logger["group"]),
            tags=tuple(str(tag) for tag in logger.get("tags") or ()),
            offline=logger.get("offline"),
            artifacts=_artifacts(logger.get("artifacts"), names),
            pictures_every=logger.get("pictures_every"),
            tracking_uri=logger.get("tracking_uri"),
        )
        every = options.pictures_every
        if every is not None and (type(every) is not int or every < 0):
            raise LacunaError(f"logger.pictures_every={every} must be a whole number of epochs, 0 for no pictures.")
        return options


def _names(names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise LacunaError(f"logger.mirrors={names} must be a list, such as logger.mirrors=[wandb,tensorboard].")
    for name in names:
        if name not in PACKAGES:
            known = ", ".join(PACKAGES)
            raise LacunaError(f"logger.mirrors: {name} is none of {known}; logger=disk is always there.")
        if PACKAGES[name] and not installed(PACKAGES[name]):
            require(PACKAGES[name], name, f"logger={name}")
    return tuple(dict.fromkeys(names))


def _artifacts(value: Any, names: Any) -> tuple[str, ...]:
    if not isinstance(value, str | bool | None) or value not in ARTIFACTS:
        raise LacunaError(f"logger.artifacts={value} must be null, model, results or all.")
    kinds = ARTIFACTS[value]
    if kinds and not set(names) & set(STORES):
        raise LacunaError(f"logger.artifacts={value}: only {' and '.join(STORES)} store files: use logger=wandb.")
    return kinds
