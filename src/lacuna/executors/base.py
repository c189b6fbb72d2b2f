"""The interface of executors: jobs in, outcomes out. Imports no torch: the process that plans never trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import ClassVar

from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.runs.title import run_title

OUT_OF_MEMORY = ("CUDA out of memory", "CUDA error: out of memory")
"""How torch says that the memory of a GPU does not suffice."""


@dataclass(frozen=True)
class Resources:
    """The request of one run.

    Args:
        cpus: CPU cores (threads) of all processes of the run together.
        gpus: GPUs; below 1, a share of one GPU.
    """

    cpus: int = 1
    gpus: float = 0.0


@dataclass(frozen=True)
class Job:
    """One run to do: recipe, settings and resources. Its prerequisites are finished when it is submitted."""

    recipe: Recipe
    settings: Settings
    resources: Resources = field(default_factory=Resources)

    @property
    def identity(self) -> str:
        """The recipe's identity."""
        return self.recipe.identity

    @property
    def folder(self) -> RunFolder:
        """The folder of the run."""
        return RunFolder.of(self.settings.output, self.recipe)

    @property
    def title(self) -> str:
        """For people: ``digits · square 25 % · MisConv · seed 0``."""
        return run_title(self.recipe)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        identity: the identity of the job.
        error: None if it is done; otherwise one sentence (for the user's mistakes) or the traceback.
        interrupted: the job was stopped and can be resumed.
        memory: most bytes of a GPU that torch reserved for a job that is done; 0: none, or not known.
    """

    identity: str
    error: str | None = None
    interrupted: bool = False
    memory: int = 0

    @classmethod
    def stopped(cls, identity: str) -> Outcome:
        """The outcome of a job that was interrupted."""
        return cls(identity, error="interrupted", interrupted=True)

    @property
    def done(self) -> bool:
        """Whether the run is finished."""
        return self.error is None and not self.interrupted

    @property
    def out_of_memory(self) -> bool:
        """Whether the job failed because a GPU had too little memory for it."""
        return not self.interrupted and any(text in (self.error or "") for text in OUT_OF_MEMORY)


class Executor(ABC):
    """Trains jobs. It is a context manager: workers start when they are first needed and end with the context.

    Jobs are submitted once their prerequisites are done, at most :attr:`slots` at a time.
    """

    in_order: ClassVar[bool] = True
    """Whether a job that is not taken (:meth:`takes`) holds up later ones, or a big one would wait for ever."""

    detached: bool = False
    """Whether the command does not wait for jobs that are in a queue of the executor's own."""

    @abstractmethod
    def resources(self, devices: int) -> Resources:
        """The request of a run of ``devices`` processes (``trainer.devices``)."""

    @abstractmethod
    def check(self, requests: Iterable[Resources]) -> None:
        """Check at planning time that every request can be placed.

        Raises:
            LacunaError: a run asks for more than there is; names the config key to change.
        """

    def prepare(self, jobs: Sequence[Job], seconds: float) -> list[Job]:
        """The jobs with the requests that suit them, before any of them is submitted.

        Args:
            jobs: of a plan, with the request of :meth:`resources`.
            seconds: until the time limit of the command.
        """
        return list(jobs)

    def begin(self, jobs: Sequence[Job], expected: Mapping[str, float | None]) -> None:
        """Learn all jobs of a plan before the first of them is submitted; an executor with a queue may fill it now.

        Args:
            jobs: those that are not finished, prerequisites first.
            expected: seconds that they are expected to take, by identity; None: unknown.
        """
        return

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many jobs to submit at a time: enough to keep every worker busy."""

    def takes(self, job: Job) -> bool:
        """Whether a job can be submitted now, where :attr:`slots` alone does not tell."""
        return True

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Start a job as soon as there are resources for it."""

    @abstractmethod
    def wait(self, timeout: float) -> list[Outcome]:
        """Outcomes of the jobs that have ended; waits up to ``timeout`` seconds for the first."""

    cancels: ClassVar[bool] = False
    """Whether :meth:`cancel` can stop a single job."""

    def cancel(self, identity: str) -> None:
        """Ask one submitted job to save its state and stop; returns at once.

        :meth:`wait` then gives its outcome: interrupted, or done. Others go on, and more may be submitted.
        """
        raise NotImplementedError

    @abstractmethod
    def stop(self) -> None:
        """Ask every submitted job to save its state and stop; returns at once.

        :meth:`wait` then gives their outcomes: interrupted, or done. None is restarted, and no other job may be
        submitted.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop all running jobs; they can be resumed later. May be called twice."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def describe_error(error: BaseException, trace: str) -> str:
    """The text of an error for an :class:`Outcome`: the sentence of a :class:`LacunaError`, otherwise the traceback."""
    return str(error) if isinstance(error, LacunaError) else trace
