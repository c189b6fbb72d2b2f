"""The jobs of ``-m``: by default each in a process of its own, one after another; otherwise as a launcher plugin does.

Processes share no state, so a job that fails does not stop the others, and each result is that of the job alone.
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from lacuna.errors import LacunaError
from lacuna.program import this_command
from lacuna.training.interrupts import note_signal
from lacuna.verbs.job import DONE, INTERRUPTED, MORE, Command

if TYPE_CHECKING:
    from lacuna.config.jobs import Jobs

BY_DEFAULT = "basic"
"""Hydra's default launcher, which would run all jobs in one process; here it is a process a job."""

PLACES = ("output", "results", "data.root", "trainer", "logger", "executor", "minutes", "plan", "render")
"""Keys that do not change what a job computes; they are no part of a group's name."""


def run_jobs(command: Command, words: list[str]) -> int:
    """Run every combination of the listed values; the exit code of all.

    Args:
        command: the command.
        words: its overrides.

    Raises:
        LacunaError: a mistake in any of the jobs, found before the first starts; a setting that cannot be obeyed.
    """
    from lacuna.config.jobs import jobs
    from lacuna.verbs import hydra_app

    found = jobs(command.configs, command.config_name, words)
    for config in found.configs:
        command.completed(config)
    if hydra_app.raw(found.hydra, "run.dir") != hydra_app.defaults()["run"]:
        raise LacunaError("hydra.run.dir is the folder of one run: with -m write hydra.sweep.dir=... .")
    grouping = _grouping(command, found)
    choices = found.hydra.runtime.choices
    if choices["hydra/sweeper"] != BY_DEFAULT:
        raise LacunaError(
            f"hydra/sweeper={choices['hydra/sweeper']}: -m runs the values that are listed; sweep.py searches"
            " hyper-parameters, with trials that resume."
        )
    if choices["hydra/launcher"] != BY_DEFAULT:
        return hydra_app.launch(command, [*words, *grouping], found.hydra)
    return _in_processes(command, found, grouping)


def _grouping(command: Command, found: Jobs) -> list[str]:
    """The override that gives all jobs one group on dashboards, unless there is none or the user has named one.

    The same command gives the same name, so that runs that it resumes stay in their group.
    """
    loggers = [config.get("logger") or {} for config in found.configs]
    if len(loggers) < 2 or not all("group" in logger and logger["group"] is None for logger in loggers):
        return []
    words = sorted({word for job in found.overrides for word in job if not word.lstrip("+").startswith(PLACES)})
    chosen = dict.fromkeys(word.partition("=")[2] for word in words if word.startswith("experiment="))
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:6]
    return [f"logger.group='{'+'.join(chosen) or command.name}-{digest}'"]


def _in_processes(command: Command, found: Jobs, grouping: list[str]) -> int:
    from lacuna.verbs.hydra_app import conclude

    failed: list[str] = []
    unfinished = 0
    folders = _folders(found)
    ending = ["--", *command.behind] if command.behind else []
    for number, overrides in enumerate(found.overrides, start=1):
        label = " ".join(overrides) or "(no overrides)"
        print(f"[{number}/{len(found.overrides)}] {label}", file=sys.stderr, flush=True)
        folder = [f"hydra.run.dir='{folders[number - 1]}'"] if folders else []
        words = [*command.options, *overrides, *grouping, *_for_one(found.shared), *folder, *ending]
        code = spawn([*this_command(command.name), *words])
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code == MORE:
            unfinished += 1
        elif code != DONE:
            failed.append(label)
            print(
                f"[{number}/{len(found.overrides)}] failed with exit code {code}: {label}", file=sys.stderr, flush=True
            )
    return conclude(failed, unfinished, len(found.overrides))


def _for_one(shared: Sequence[str]) -> list[str]:
    """Those settings of Hydra that a single run obeys."""
    from lacuna.verbs.hydra_app import FOR_JOBS

    return [word for word in shared if not word.lstrip("+").startswith((*FOR_JOBS, "hydra.mode"))]


def _folders(found: Jobs) -> list[Path]:
    """Hydra's folder of every job, and its ``multirun.yaml``, if ``hydra.sweep`` asks for them; otherwise none."""
    from omegaconf import OmegaConf

    from lacuna.config.jobs import job_settings
    from lacuna.verbs import hydra_app

    if hydra_app.raw(found.hydra, "sweep.dir") == hydra_app.defaults()["sweep"]:
        if not any(word.lstrip("+").startswith("hydra.sweep.") for word in found.shared):
            return []
        found.hydra.sweep.dir = hydra_app.SWEEP
    settings = [job_settings(found, number) for number in range(len(found.overrides))]
    sweep = Path(settings[0].hydra.sweep.dir).absolute()
    folders = [sweep / str(one.hydra.sweep.subdir) for one in settings]
    if len(set(folders)) < len(folders):
        raise LacunaError(
            f"hydra.sweep.subdir gives several jobs the folder {folders[0]}: write ${{hydra.job.num}} in it."
        )
    sweep.mkdir(parents=True, exist_ok=True)
    whole: Any = OmegaConf.create({**found.configs[0], "hydra": found.hydra})
    OmegaConf.save(whole, sweep / "multirun.yaml")
    return folders


def spawn(command: list[str]) -> int:
    """Run a command to its end; its exit code.

    After Ctrl-C, which it gets as well, it may first save its state. SIGTERM, which this process alone may get, is
    passed on to it.
    """
    with subprocess.Popen(command) as process:

        def pass_on(signum: int, frame: FrameType | None) -> None:
            process.send_signal(signum)
            if note_signal(signum):
                raise KeyboardInterrupt

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGUSR1)}
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
