"""Several processes for one run: the parent starts one for each device, waits for them, and ends them together.

The parent holds the run's lock and records how the run ends; the ranks train, and rank 0 writes. Each is a fresh
``python -m lacuna.runs.ranks FOLDER``, so this works in every process that executes a run, whatever its command line.
``FOLDER`` is a temporary folder with the job, what the ranks say of their failures, and the file they meet at.

Whatever happens to one of them happens to all: a rank that fails ends the others, an interrupt reaches every rank, and
ranks whose parent is gone end at once, since somebody else may have the run's lock by then.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import lacuna
from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings

JOB = "job.json"
TICK = 0.05
GRACE = 15.0
"""Seconds that ranks have to close their files when they are told to stop."""
PATIENCE = datetime.timedelta(days=7)
"""How long a rank waits for the others, which may be judging a large set; a dead one is noticed by the parent."""

MISTAKE, INTERRUPTED, CRASH = "mistake", "interrupted", "crash"


class RankError(RuntimeError):
    """A rank failed; its traceback is the cause."""


class RemoteTraceback(Exception):
    """The traceback of another process, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


# ---------------------------------------------------------------------- the parent


def run_ranks(recipe: Recipe, settings: Settings) -> None:
    """Train a recipe on ``settings.devices`` devices of this machine; the caller has the run's lock.

    Raises:
        LacunaError: the mistake that a rank found, or it was killed.
        RankError: a rank crashed.
        KeyboardInterrupt: this process, or a rank, was told to stop (SIGINT or SIGTERM).
    """
    import torch

    threads = max(1, torch.get_num_threads() // settings.devices)
    job = {
        "recipe": recipe.content,
        "settings": {
            "output": str(settings.output),
            "data_root": str(settings.data_root),
            "download": settings.download,
            "trainer": dict(settings.trainer),
            "logger": dict(settings.logger),
        },
        "threads": threads,
    }
    with tempfile.TemporaryDirectory(prefix="lacuna-") as name:
        files.write_json(Path(name) / JOB, job)
        start([sys.executable, "-m", "lacuna.runs.ranks", name], settings.devices, Path(name), threads)


def start(command: Sequence[str], count: int, folder: Path, threads: int = 1) -> None:
    """Run ``command`` in ``count`` processes with RANK, LOCAL_RANK and WORLD_SIZE set, until all have ended.

    Args:
        folder: where they report failures (:func:`report_failure`); the output of all but rank 0 goes there, too.
        threads: of each, for OpenMP.

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
    # as multiprocessing does: what the parent can import its children can
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(lacuna.__file__).parents[1]), *filter(None, sys.path)])
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if sys.platform == "linux":
        # gloo would listen at the address of the machine's name, if that has one
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with open(_output(folder, rank), "wb") as output:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,  # whose end is the end of this process: see _end_with_parent
            stdout=None if rank == 0 else output,
            stderr=None if rank == 0 else subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal reaches this process alone, which passes it on
        )


def _wait(processes: Sequence[subprocess.Popen[bytes]], folder: Path) -> None:
    """Until all have ended well.

    Raises what the first one that failed says.
    """
    while True:
        # a rank that was killed shows in the codes by the time that another one reports what came of it
        reports = _reports(folder, range(len(processes)))
        codes = [process.poll() for process in processes]
        failed = {rank: code for rank, code in enumerate(codes) if code}
        if reports or failed:
            raise _failure(failed, {**reports, **_reports(folder, failed)}, folder)
        if all(code == 0 for code in codes):
            return
        time.sleep(TICK)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let nothing of it go on: say stop, wait a little, then kill."""
    try:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        until = time.monotonic() + GRACE
        while any(process.poll() is None for process in processes) and time.monotonic() < until:
            time.sleep(TICK)
    finally:  # told to stop once more: at once
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, which would end this process at once, becomes an interrupt for a while."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield  # somebody else's business
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


# ---------------------------------------------------------------------- failures


def report_failure(error: BaseException, folder: Path) -> None:
    """Leave what went wrong in this rank for the parent to find."""
    kind = MISTAKE if isinstance(error, LacunaError) else CRASH
    if isinstance(error, KeyboardInterrupt):
        kind = INTERRUPTED
    message = str(error) if kind == MISTAKE else f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    report = {"kind": kind, "message": message, "trace": trace, "time": time.time()}
    try:
        files.write_json(_output(folder, int(os.environ["RANK"]), "json"), report)
    except (OSError, LacunaError):
        print(trace, file=sys.stderr, flush=True)


def _failure(codes: Mapping[int, int], reports: Mapping[int, dict[str, Any]], folder: Path) -> BaseException:
    """What to raise: a mistake says most, then a rank that died without a word; the others' troubles come of it."""
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
            f"The process of rank {rank} was killed, perhaps for want of memory: free some, and run the same command "
            "again to go on from the last checkpoint."
        )
    why = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    error = RankError(f"rank {rank} ended {why}")
    with contextlib.suppress(OSError):
        error.__cause__ = RemoteTraceback(_output(folder, rank).read_text(encoding="utf-8", errors="replace")[-4000:])
    return error


def _output(folder: Path, rank: int, suffix: str = "txt") -> Path:
    return folder / f"rank-{rank}.{suffix}"


def _reports(folder: Path, ranks: Iterable[int]) -> dict[int, dict[str, Any]]:
    paths = {rank: _output(folder, rank, "json") for rank in ranks}
    return {rank: files.read_json(path) for rank, path in paths.items() if path.exists()}


# ---------------------------------------------------------------------- a rank


def main(folder: Path) -> int:
    """The life of a rank: its share of one run."""
    obey_parent(folder)
    try:
        job = files.read_json(folder / JOB)
        given = job["settings"]
        places = {name: Path(given[name]) for name in ("output", "data_root")}
        settings = Settings(**{**given, **places})

        from lacuna.runs.environment import set_up
        from lacuna.runs.opening import on_cuda

        set_up(job["threads"])
        with process_group(folder, on_cuda(settings)):
            from lacuna.runs.run import perform

            perform(Recipe(job["recipe"]), settings)
    except BaseException as error:  # a SystemExit out of a library is a failure, too
        report_failure(error, folder)
        return 1
    return 0


def obey_parent(temporary: Path | None = None) -> None:
    """Stop when the parent says so (SIGINT) or is gone (then remove its ``temporary`` folder), and for nobody else."""
    # what Lightning makes of a SIGTERM to every process of a job can hang; the parent has heard it, too
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started us in the background

    def watch() -> None:
        os.read(0, 1)  # nothing is ever written there: this returns when the parent's end is closed
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def process_group(folder: Path, cuda: bool) -> Iterator[None]:
    """Torch's group of all ranks; they meet at a file, for a port could be somebody else's by then."""
    import torch
    from torch import distributed

    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if cuda:
        torch.cuda.set_device(rank)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",  # plain values go by gloo: no GPU is kept busy with waiting
        store=distributed.FileStore(str(folder / "store"), count),  # type: ignore[attr-defined]
        rank=rank,
        world_size=count,
        timeout=PATIENCE,
        device_id=torch.device("cuda", rank) if cuda else None,
    )
    yield
    # not after a failure: the others may never come
    distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
