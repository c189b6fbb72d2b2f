"""What a mirror of a run can do, and the facts about the run that it shows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lacuna.runs.folder import RunFolder
from lacuna.runs.mirror_options import MirrorOptions
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings

DONE, FAILED, INTERRUPTED = 0, 1, 255
"""Exit codes of a run. W&B's own for Ctrl-C is 255."""

Row = Mapping[str, Any]
Entry = dict[str, Any]
"""What is remembered of a mirror between two commands: see :mod:`lacuna.training.mirrors.memory`."""


@dataclass(frozen=True)
class RunFacts:
    """A run as dashboards list it.

    Args:
        identity: of the recipe.
        name: of the run, for people.
        group: shared by the runs of a table, a sweep, a ``-m``, or by the seeds of a recipe.
        job_type: the task.
        tags: task, data, and what the user and the table add.
        config: the resolved recipe as plain values, with the seed at its top.
        folder: of the run.
        output: the folder of all runs.
    """

    identity: str
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    folder: Path
    output: Path

    @classmethod
    def of(cls, recipe: Recipe, settings: Settings) -> RunFacts:
        """The facts about a run of ``settings``."""
        options, folder = settings.mirrors, RunFolder.of(settings.output, recipe)
        return cls(
            identity=recipe.identity,
            name=folder.path.name,
            group=options.group or f"{recipe.group}-{recipe.family}",
            job_type=recipe.task,
            tags=tuple(dict.fromkeys([recipe.task, str(recipe.config["data"]["name"]), *options.tags])),
            config={**recipe.config, "identity": recipe.identity, "method": recipe.group},
            folder=folder.path,
            output=Path(settings.output),
        )


class Mirror(ABC):
    """Shows one run; it is open once it is made, and shows what earlier attempts have left there, too.

    Args:
        facts: about the run.
        options: of all mirrors.
        entry: what the last attempt has remembered of this mirror; empty for the first.
    """

    name: ClassVar[str]
    shows = True
    """Whether it shows anything (W&B may be disabled by its own settings)."""
    keeps_lines = True
    """Whether lines of earlier attempts are still there; otherwise they are logged again."""

    @abstractmethod
    def __init__(self, facts: RunFacts, options: MirrorOptions, entry: Entry) -> None: ...

    @abstractmethod
    def log(self, row: Row, step: int) -> None:
        """Show a line of the history, or what was measured at a step of the training."""

    @abstractmethod
    def show(self, pictures: Mapping[str, Any], step: int) -> None:
        """Show pictures (PIL images or paths) by name."""

    @abstractmethod
    def conclude(self, metrics: Mapping[str, float], step: int) -> None:
        """Show final metrics, those that are not in the history."""

    @abstractmethod
    def close(self, exit_code: int) -> None:
        """End the run; :data:`DONE`, :data:`FAILED` or :data:`INTERRUPTED`."""

    def store(self, kind: str, files: Sequence[Path]) -> None:  # noqa: B027
        """Store files with the run, if the mirror can."""

    def remembered(self) -> Entry:
        """What the next attempt has to know about this mirror."""
        return {}
