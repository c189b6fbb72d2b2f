"""``trainer.profiler``: where the time of a training goes, as a report in the run's folder."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning import profilers
from pytorch_lightning.profilers import Profiler

from lacuna.errors import LacunaError
from lacuna.runs.settings import Settings
from lacuna.tasks.common import distributed

FOLDER = "profile"
"""Folder of the reports in a run's folder."""
PROFILERS: dict[str, type[Profiler]] = {
    "simple": profilers.SimpleProfiler,
    "advanced": profilers.AdvancedProfiler,
    "pytorch": profilers.PyTorchProfiler,
}
"""Lightning's: seconds of each phase; of each function (cProfile); of each operation, with a trace for a browser."""


def check_profiler(settings: Settings) -> None:
    """Check ``trainer.profiler``.

    Raises:
        LacunaError: it is none of the choices.
    """
    name = settings.option("profiler", None)
    if name is not None and name not in PROFILERS:
        raise LacunaError(f"trainer.profiler={name} is none of null, {', '.join(PROFILERS)}.")


def make_profiler(settings: Settings, folder: Path) -> Profiler | None:
    """The profiler that the settings ask for; it writes to ``folder/profile``. None: no profiler."""
    name = settings.option("profiler", None)
    if name is None:
        return None
    return PROFILERS[name](dirpath=folder / FOLDER, filename=str(name))


def announce_profile(settings: Settings, folder: Path, *, trained: bool) -> None:
    """Say where the report is, or why there is none."""
    if settings.option("profiler", None) is None or distributed.rank():
        return
    print(f"profile: {folder / FOLDER}" if trained else "trainer.profiler: this run fits and has no steps", flush=True)
