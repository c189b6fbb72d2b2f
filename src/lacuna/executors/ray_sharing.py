"""Shares of GPUs on Ray, from a measurement on one GPU of the cluster (``executor.gpus=auto``)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from lacuna.errors import LacunaError
from lacuna.executors.base import Job
from lacuna.executors.ray_cluster import Cluster
from lacuna.executors.sharing import choice_text, probe_request, with_shares, worth_measuring
from lacuna.throughput.measurements import Measurements
from lacuna.throughput.probe import ProbeRequest

UNKNOWN = 1
"""Runs on a GPU where nothing was measured: the memory of a cluster's GPUs may be small."""


def share_gpus(
    cluster: Cluster,
    jobs: Sequence[Job],
    seconds: float,
    threads: int,
    measure: Callable[[ProbeRequest], Measurements | None],
) -> tuple[list[Job], Measurements | None]:
    """Jobs with the shares of a GPU that suit their kinds, and what is known of it; says what was chosen on stderr.

    Args:
        cluster: whose GPUs they share.
        jobs: of a plan.
        seconds: until the time limit of the command.
        threads: of a run.
        measure: measures on the machine that it is called on.
    """
    request = probe_request(jobs, seconds, threads)
    if request is None or not worth_measuring(request):
        return list(jobs), None
    kinds = sorted(kind.removeprefix("accelerator_type:") for kind in cluster.gpu_kinds())
    if len(kinds) > 1:  # a share of one is not a share of another
        _say(f"executor.gpus=auto: Ray has several kinds of GPUs ({', '.join(kinds)}): each run has one")
        return list(jobs), None
    try:
        known: Measurements | None = cluster.call_on_gpu(measure, request)
    except LacunaError as error:
        _say(f"executor.gpus=auto: nothing was measured ({error}): each run has one")
        return list(jobs), None
    _say(choice_text(request.kinds, known, UNKNOWN))
    return with_shares(jobs, known, UNKNOWN, lambda job, share: job.resources.cpus), known


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
