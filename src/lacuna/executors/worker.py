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
        execute(job.recipe, job.settings, announce=False)
    except KeyboardInterrupt:
        return Outcome.stopped(job.identity)
    except BaseException as error:  # also the SystemExit of a library: it must not end the worker silently
        return Outcome(job.identity, error=describe_error(error, traceback.format_exc()))
    return Outcome(job.identity)
