"""What a worker process does with a job, in every executor."""

from __future__ import annotations

import traceback

from lacuna.executors.base import Job, Outcome, describe_error


def run_job(job: Job) -> Outcome:
    """Train one job in this process. Ordinary exceptions become an outcome."""
    try:
        from lacuna.runs import environment

        with environment.quick_imports():
            from lacuna.training.run import execute

        environment.set_up(job.settings.trainer.get("threads") or job.resources.cpus)
        _forget_memory()
        execute(job.recipe, job.settings, announce=False)
    except KeyboardInterrupt:
        return Outcome.stopped(job.identity)
    except BaseException as error:  # also the SystemExit of a library: it must not end the worker silently
        return Outcome(job.identity, error=describe_error(error, traceback.format_exc()))
    return Outcome(job.identity, memory=_most_memory())


def _forget_memory() -> None:
    """Return what the previous job of this process left reserved on the GPU, and count from there."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _most_memory() -> int:
    """Most bytes that torch has reserved on the GPU during the job."""
    import torch

    return torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0
