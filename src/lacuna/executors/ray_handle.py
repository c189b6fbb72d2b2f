"""A worker on Ray, as the process that submits jobs sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lacuna.executors.base import Job, Resources


@dataclass(eq=False)
class WorkerHandle:
    """A worker on Ray: requested, idle or busy.

    Args:
        actor: Ray's handle of the actor.
        resources: of the worker; they never change.
        pending: Ray's reference to its next answer: its location, or the outcome of its job; None if idle.
        node, pid: its location.
        job: its present job.
    """

    actor: Any
    resources: Resources
    pending: Any
    node: str | None = None
    pid: int | None = None
    job: Job | None = None

    @property
    def idle(self) -> bool:
        """Whether it can take a job now."""
        return self.pending is None


def loss_reason(error: Exception) -> str:
    """Why a worker was lost, for people."""
    text = str(error).strip()
    if "low on memory" in text or "OutOfMemory" in type(error).__name__:
        return "Ray ended it because its machine ran out of memory: fewer runs share one if executor.cpus is higher"
    if "creation task" in text or "runtime_env" in text:
        return f"it cannot start there: {text.splitlines()[-1].strip()}"
    if "Unavailable" in type(error).__name__ or "its node has died" in text:
        return "its machine no longer answers"
    return "its process was killed or crashed: perhaps there is too little memory"
