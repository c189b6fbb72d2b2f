"""One of several processes (ranks) that train one run together; :mod:`lacuna.training.ranks` starts them.

``python -m lacuna.training.rank FOLDER`` reads its job from the folder and writes its failure there.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from lacuna import files, plugins
from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings

JOB = "job.json"
PATIENCE = datetime.timedelta(days=7)
"""How long a rank waits for the others, which may be evaluating a large set; the parent notices dead ranks."""

MISTAKE, INTERRUPTED, CRASH = "mistake", "interrupted", "crash"


def rank_file(folder: Path, rank: int, suffix: str = "txt") -> Path:
    """File of a rank's output (``txt``) or failure (``json``)."""
    return folder / f"rank-{rank}.{suffix}"


def report_failure(error: BaseException, folder: Path) -> None:
    """Write the failure of this rank for the parent to read."""
    kind = MISTAKE if isinstance(error, LacunaError) else CRASH
    if isinstance(error, KeyboardInterrupt):
        kind = INTERRUPTED
    message = str(error) if kind == MISTAKE else f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    report = {"kind": kind, "message": message, "trace": trace, "time": time.time()}
    try:
        files.write_json(rank_file(folder, int(os.environ["RANK"]), "json"), report)
    except (OSError, LacunaError):
        print(trace, file=sys.stderr, flush=True)


def main(folder: Path) -> int:
    """Train as one rank; 1 after a failure."""
    obey_parent(folder)
    try:
        job = files.read_json(folder / JOB)
        stored = job["settings"]
        settings = Settings(**{**stored, **{name: Path(stored[name]) for name in ("output", "data_root")}})

        from lacuna.runs.environment import quick_imports, set_up

        with quick_imports():
            from lacuna.training.fit import perform
            from lacuna.training.loading import on_cuda

        set_up(job["threads"])
        with process_group(folder, on_cuda(settings)), plugins.permit(settings.plugins, announced=True):
            perform(Recipe(job["recipe"]), settings)
    except BaseException as error:  # a SystemExit from a library is a failure, too
        report_failure(error, folder)
        return 1
    return 0


def obey_parent(temporary: Path | None = None) -> None:
    """Stop on the parent's SIGINT, or when it has ended (then remove its ``temporary`` folder).

    The signals that schedulers send to every process of a job are ignored.
    """
    # Lightning can hang on a SIGTERM sent to every process of a job; the parent receives it, too, and passes it on
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2})
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it

    def watch() -> None:
        os.read(0, 1)  # nothing is written there: this returns when the parent has ended
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def process_group(folder: Path, cuda: bool) -> Iterator[None]:
    """Torch's process group of all ranks; they meet at a file, for a port could be taken by another process."""
    import torch
    from torch import distributed

    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if cuda:
        torch.cuda.set_device(rank)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",  # gloo for plain values, so that waiting keeps no GPU busy
        store=distributed.FileStore(str(folder / "store"), count),  # type: ignore[attr-defined]
        rank=rank,
        world_size=count,
        timeout=PATIENCE,
        device_id=torch.device("cuda", rank) if cuda else None,
    )
    yield
    # not after a failure, for the other ranks may not come to it
    distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
