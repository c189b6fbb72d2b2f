"""The share of a GPU that each run of a plan asks for, from measurements (``executor.gpus=auto``)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from lacuna.executors.base import Job, Outcome, Resources
from lacuna.throughput.measurements import FILL, Measurements
from lacuna.throughput.probe import CONTEXT, SECONDS, SHARE_OF_LIMIT, ProbeRequest, pays
from lacuna.throughput.step_kinds import Kind, kind_key, kinds_of, stored_in

SHOWN = 3
"""Kinds of runs named in the line about the choice."""


def can_share(job: Job) -> bool:
    """Whether other runs may be on the GPU of a job.

    A run of several devices has whole GPUs, and so has a run that measures times.
    """
    return 0 < job.resources.gpus <= 1 and job.settings.devices == 1 and not job.recipe.measured


def probe_request(
    jobs: Sequence[Job], seconds: float, threads: int | None = None, cards: int = 1
) -> ProbeRequest | None:
    """What to measure before some jobs start; None if no two of them could share a GPU.

    Args:
        jobs: the jobs; they have the same settings.
        seconds: until the time limit of the command.
        threads: of each run; None: an equal share of the cores.
        cards: GPUs that share these cores.
    """
    sharing = [job for job in jobs if can_share(job)]
    if len(sharing) < 2:
        return None
    settings = sharing[0].settings
    kinds, _ = kinds_of((job.recipe for job in sharing), stored_in(settings.data_root))
    accelerator = str(settings.option("accelerator", "auto"))
    limit = min(SECONDS, SHARE_OF_LIMIT * seconds)
    folders = settings.output.absolute(), settings.data_root.absolute()
    return ProbeRequest(tuple(kinds), *folders, accelerator, limit, threads, cards)


def with_shares(
    jobs: Sequence[Job], known: Measurements | None, unknown: int, cpus: Callable[[Job, float], int]
) -> list[Job]:
    """Jobs that ask for 1 / n of a GPU, where n is how many runs of their kind share one.

    Args:
        jobs: the jobs; those that cannot share a GPU have whole ones.
        known: measurements; None: there are none.
        unknown: the number for a kind that was not measured, if none was.
        cpus: CPU cores of a job with a share.
    """
    default = (known.default if known else None) or unknown
    shared = []
    for job in jobs:
        if can_share(job):
            number = (known.number(kind_key(job.recipe)) if known else None) or default
            job = replace(job, resources=Resources(cpus(job, 1 / number), 1 / number))
        elif 0 < job.resources.gpus < 1:
            job = replace(job, resources=Resources(cpus(job, 1.0), 1.0))
        shared.append(job)
    return shared


def learn(known: Measurements | None, job: Job, outcome: Outcome) -> None:
    """Keep what a run, evaluation included, took of its GPU, if it is more than was expected from its steps.

    The next command gives runs of this kind more; twice the share where one ran out of memory.
    """
    row = known.rows.get(kind_key(job.recipe), {}) if known is not None and can_share(job) else {}
    if known is None or "memory" not in row:
        return
    taken = outcome.memory + CONTEXT if outcome.memory else 0
    if outcome.out_of_memory:
        taken = int(2 * job.resources.gpus * FILL * known.memory)
    if taken > row["memory"]:
        row["memory"] = taken
        known.save(job.settings.output.absolute())


def alone(job: Job) -> Job:
    """The same job with a whole GPU."""
    print(f"{job.title}: its share of a GPU has too little memory; the run gets a whole one.", file=sys.stderr)
    return replace(job, resources=replace(job.resources, gpus=1.0))


def choice_text(kinds: Sequence[Kind], known: Measurements | None, unknown: int) -> str:
    """One line on what was measured and chosen.

    Args:
        kinds: of the runs, the most costly ones first.
        known: measurements.
        unknown: the number for a kind that was not measured, if none was.
    """
    if known is None:
        return f"executor.gpus=auto: the memory of the GPUs is not known: {_each(unknown)}"
    measured = [kind for kind in kinds if "ms" in known.rows.get(kind.key, {})]
    parts = [f"{known.number(kind.key)} of {kind.name} ({_row_text(known, kind)})" for kind in measured[:SHOWN]]
    if len(measured) > SHOWN:
        numbers = sorted({known.number(kind.key) or 1 for kind in measured[SHOWN:]})
        parts.append(f"{' or '.join(map(str, numbers))} of {len(measured) - SHOWN} more kinds")
    others = len(kinds) - len(measured)
    if others or not measured:
        why = "median, as far as memory allows" if known.default else "nothing measured"
        parts.append(f"{known.default or unknown} of the others ({why})")
    free = f"{known.hardware}, {known.memory / 2**30:.0f} GiB free"
    return f"executor.gpus=auto: runs on one GPU ({free}): {', '.join(parts)}"


def worth_measuring(request: ProbeRequest) -> bool:
    """Whether some kind of runs is long enough to be measured."""
    return any(map(pays, request.kinds))


def _row_text(known: Measurements, kind: Kind) -> str:
    row = known.rows[kind.key]
    times = {1: row["ms"], **(row.get("side_by_side") or {})}
    listed = ", ".join(f"{number}: {ms:.3g}" for number, ms in times.items())
    return f"ms per step {listed}; {row['memory'] / 2**30:.1f} GiB"


def _each(number: int) -> str:
    return f"{number} runs share one" if number > 1 else "each run has one"
