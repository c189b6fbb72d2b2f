"""Several processes (ranks) for one run: the parent starts one for each device, waits for them, and ends them together.

The parent holds the run's lock and records how the run ends; the ranks train, and rank 0 writes. Each rank is a new
``python -m lacuna.training.rank FOLDER``, so this works whatever the parent's command line is. ``FOLDER`` is a
temporary folder with the job, the ranks' failures, and the file at which they meet.

A rank that fails ends the others, an interrupt reaches every rank, and ranks whose parent has ended stop at once, since
another process may have the run's lock by then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import lacuna
from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.training.interrupts import stop_signals
from lacuna.training.rank import CRASH, INTERRUPTED, JOB, MISTAKE, rank_file

TICK = 0.05
GRACE = 15.0
"""Seconds that ranks have to close their files after SIGINT, before they are killed."""


class RankError(RuntimeError):
    """A rank failed; its traceback is the cause."""


class RemoteTraceback(Exception):
    """The traceback of another process, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def run_ranks(recipe: Recipe, settings: Settings) -> None:
    """Train a recipe on ``settings.devices`` devices of this machine; the caller has the run's lock.

    Raises:
        LacunaError: a mistake that a rank found, or a rank was killed.
        RankError: a rank crashed.
        KeyboardInterrupt: this process, or a rank, received SIGINT or SIGTERM (or SIGUSR1 under SLURM).
    """
    import torch

    threads = max(1, torch.get_num_threads() // settings.devices)
    job = {
        "recipe": recipe.config,
        "settings": {
            "output": str(settings.output),
            "data_root": str(settings.data_root),
            "download": settings.download,
            "trainer": dict(settings.trainer),
            "logger": dict(settings.logger),
            "plugins": list(settings.plugins),
        },
        "threads": threads,
    }
    with tempfile.TemporaryDirectory(prefix="lacuna-") as name:
        files.write_json(Path(name) / JOB, job)
        start([sys.executable, "-m", "lacuna.training.rank", name], settings.devices, Path(name), threads)


def start(command: Sequence[str], count: int, folder: Path, threads: int = 1) -> None:
    """Run ``command`` in ``count`` processes with RANK, LOCAL_RANK and WORLD_SIZE set, until all have ended.

    Args:
        command: of each rank.
        count: of ranks.
        folder: for their failures (:func:`lacuna.training.rank.report_failure`) and the output of all but rank 0.
        threads: of each rank, for OpenMP.

    Raises:
        As :func:`run_ranks`.
    """
    processes: list[subprocess.Popen[bytes]] = []
    with _terminable():
        try:
            for rank in range(count):
                processes.append(_process(command, rank, count, folder, threads))
            _wait(processes, folder)
        finally:
            _end(processes)


def _process(command: Sequence[str], rank: int, count: int, folder: Path, threads: int) -> subprocess.Popen[bytes]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "NODE_RANK": 0, "OMP_NUM_THREADS": threads}
    environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
    # the ranks can import what the parent can, as with multiprocessing
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(lacuna.__file__).parents[1]), *filter(None, sys.path)])
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if sys.platform == "linux":
        # otherwise gloo listens at the address of the machine's name, if it has one
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with open(rank_file(folder, rank), "wb") as output:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,  # closed when this process ends: see obey_parent in rank.py
            stdout=None if rank == 0 else output,
            stderr=None if rank == 0 else subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C in a terminal reaches this process only, which passes it on
        )


def _wait(processes: Sequence[subprocess.Popen[bytes]], folder: Path) -> None:
    """Wait until all ranks have ended; raises the failure of the first one that failed."""
    while True:
        # reports first: a rank that was killed has an exit code before another one reports the consequences
        reports = _reports(folder, range(len(processes)))
        codes = [process.poll() for process in processes]
        failed = {rank: code for rank, code in enumerate(codes) if code}
        if reports or failed:
            raise _failure(failed, {**reports, **_reports(folder, failed)}, folder)
        if all(code == 0 for code in codes):
            return
        time.sleep(TICK)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End all ranks: SIGINT first, SIGKILL after ``GRACE`` seconds."""
    try:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        until = time.monotonic() + GRACE
        while any(process.poll() is None for process in processes) and time.monotonic() < until:
            time.sleep(TICK)
    finally:  # also after a second interrupt
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """The signals to stop raise KeyboardInterrupt inside, where they would end this process at once."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    # where another handler is installed, it stays
    numbers = [number for number in stop_signals() if main and signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _failure(codes: Mapping[int, int], reports: Mapping[int, dict[str, Any]], folder: Path) -> BaseException:
    """The error to raise: a mistake first, then an interrupt, a rank that died without a report, a crash."""
    order = {MISTAKE: 0, INTERRUPTED: 1, CRASH: 3}
    found = [(order[report["kind"]], report["time"], rank) for rank, report in reports.items()]
    found += [(2, 0.0, rank) for rank in codes if rank not in reports]
    rank = min(found)[-1]
    if rank not in reports:
        return _death(rank, codes[rank], folder)
    report = reports[rank]
    if report["kind"] == INTERRUPTED:
        return KeyboardInterrupt()
    sentence = report["message"]
    error = LacunaError(sentence) if report["kind"] == MISTAKE else RankError(f"in rank {rank}: {sentence}")
    error.__cause__ = RemoteTraceback(report["trace"])
    return error


def _death(rank: int, code: int, folder: Path) -> Exception:
    if code == -signal.SIGKILL:
        return LacunaError(
            f"The process of rank {rank} was killed, perhaps for lack of memory: free some, and run the same command "
            "again to resume from the last checkpoint."
        )
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    error = RankError(f"rank {rank} ended {how}")
    with contextlib.suppress(OSError):
        error.__cause__ = RemoteTraceback(rank_file(folder, rank).read_text(encoding="utf-8", errors="replace")[-4000:])
    return error


def _reports(folder: Path, ranks: Iterable[int]) -> dict[int, dict[str, Any]]:
    paths = {rank: rank_file(folder, rank, "json") for rank in ranks}
    return {rank: files.read_json(path) for rank, path in paths.items() if path.exists()}
