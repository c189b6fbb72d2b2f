"""What an executor is given and what it must say. Nothing here imports torch: the process that plans never trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType

from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings


@dataclass(frozen=True)
class Resources:
    """What one run asks for.

    Args:
        cpus: CPU cores, which are its threads (all processes of the run together).
        gpus: GPUs; a fraction shares one with other runs.
    """

    cpus: int = 1
    gpus: float = 0.0


@dataclass(frozen=True)
class Job:
    """One run to be done: a recipe, and how and where; the runs it needs are finished when it is submitted."""

    recipe: Recipe
    settings: Settings
    resources: Resources = field(default_factory=Resources)

    @property
    def identity(self) -> str:
        """Of the recipe."""
        return self.recipe.identity

    @property
    def folder(self) -> RunFolder:
        """Where the run's results appear."""
        return RunFolder.of(self.settings.output, self.recipe)

    @property
    def title(self) -> str:
        """For people: ``mnist-square-misconv, seed 0``."""
        return f"{self.recipe.group}, seed {self.recipe.config['seed']}"


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        identity: the job's.
        error: None if it is done; otherwise one sentence (for the user's mistakes) or the traceback.
        interrupted: the job was stopped by the user and can go on later.
    """

    identity: str
    error: str | None = None
    interrupted: bool = False

    @classmethod
    def stopped(cls, identity: str) -> Outcome:
        """Of a job that was interrupted."""
        return cls(identity, error="interrupted", interrupted=True)

    @property
    def done(self) -> bool:
        """Whether the run is finished."""
        return self.error is None and not self.interrupted


class Executor(ABC):
    """Trains jobs somewhere. Use it as a context manager: workers start when first needed and end with it.

    Jobs are submitted when they are ready, and at most :attr:`slots` at a time.
    """

    @abstractmethod
    def resources(self, devices: int) -> Resources:
        """What a run of ``devices`` processes asks for here (``trainer.devices``)."""

    @abstractmethod
    def check(self, wanted: Iterable[Resources]) -> None:
        """Refuse, at planning time, what could never be placed.

        Raises:
            LacunaError: a run asks for more than there is; names the config key to change.
        """

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many jobs to hand over at once: enough to keep every place busy."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Start a job as soon as there is a place for it."""

    @abstractmethod
    def wait(self, timeout: float) -> list[Outcome]:
        """What has ended by now; waits up to ``timeout`` seconds for the first."""

    @abstractmethod
    def stop(self) -> None:
        """Have every job that was submitted stop as soon as its state is saved; returns at once.

        :meth:`wait` then gives their outcomes: interrupted, or done by then. None is taken up again, and no other one
        may be submitted.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop everything that still runs; it can be resumed later. May be called twice."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def describe_error(error: BaseException, trace: str) -> str:
    """What an :class:`Outcome` says: the sentence of a :class:`LacunaError`, otherwise the traceback."""
    return str(error) if isinstance(error, LacunaError) else trace
