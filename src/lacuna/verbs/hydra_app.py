"""What is Hydra's own: the application object behind ``hydra.main``.

``hydra.main`` itself prints errors in its own way and keeps no results of jobs; the verbs need sentences and exit
codes. So the command line is read by :mod:`lacuna.verbs.arguments`, and this module calls what ``hydra.main`` calls.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from functools import lru_cache
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from lacuna.config.compose import hydra_for
from lacuna.errors import LacunaError
from lacuna.verbs.arguments import Arguments
from lacuna.verbs.job import CRASHED, DONE, MORE, Command

FOR_JOBS = ("hydra.sweep.", "hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper")
"""Settings that Hydra reads for the jobs of ``-m`` only."""

SWEEP = "${output}/multirun/${now:%Y-%m-%d_%H-%M-%S}"
"""Hydra's folder of the jobs of one command, where one is needed and ``hydra.sweep.dir`` names none."""


def show(command: Command, arguments: Arguments, overrides: list[str]) -> None:
    """Print what an option asks for: ``--cfg``, ``--info``, ``--hydra-help`` or ``--shell-completion``."""
    name, words = command.config_name, list(overrides)
    if arguments.cfg in ("hydra", "all"):
        words += unasked(command.compose(overrides)[1])
    with hydra_for(command.configs, command.name) as app:
        if arguments.shell_completion:
            app.shell_completion(config_name=name, overrides=words)
        elif arguments.hydra_help:
            app.hydra_help(config_name=name, args_parser=get_args_parser(), args=Namespace(overrides=words))
        elif arguments.info:
            app.show_info(arguments.info, config_name=name, overrides=words)
        else:
            app.show_cfg(name, words, str(arguments.cfg), arguments.package, arguments.resolve)


# ------------------------------------------------------------------ one run


def asked(settings: DictConfig) -> bool:
    """Whether Hydra has anything to do for a single run: a folder, logs, variables, callbacks, whatever was set."""
    job, choices = settings.job, settings.runtime.choices
    chosen = [choices.get(f"hydra/{group}") for group in ("job_logging", "callbacks", "env")]
    return bool(
        [word for word in settings.overrides.hydra if not str(word).startswith("hydra.mode=")]
        or raw(settings, "run.dir") != defaults()["run"]
        or settings.output_subdir != ".hydra"
        or any((job.chdir, job.env_set, job.env_copy, settings.verbose, settings.callbacks))
        or chosen != ["default", None, "default"]
    )


def unasked(settings: DictConfig) -> list[str]:
    """Overrides against files that nobody asked for: without ``hydra.run.dir`` or ``job.chdir``, Hydra writes none."""
    words: list[str] = []
    given = [str(word).partition("=")[0] for word in settings.overrides.hydra]
    if raw(settings, "run.dir") == defaults()["run"] and not settings.job.chdir:
        words.append("hydra.run.dir=.")
        words += [] if "hydra.output_subdir" in given else ["hydra.output_subdir=null"]
        words += [] if "hydra/job_logging" in given else ["hydra/job_logging=none"]
    if raw(settings, "sweep.dir") == defaults()["sweep"]:
        words.append(f"hydra.sweep.dir={SWEEP}")
    return words


def run(command: Command, overrides: list[str], settings: DictConfig) -> int:
    """A single run as Hydra does it, with the folder, logs and variables that it was asked for; its exit code."""
    words = [*overrides, *unasked(settings), "hydra.mode=RUN"]
    with hydra_for(command.configs, command.name) as app:
        job = app.run(command.config_name, command, words)
    return int(job.return_value)


def refuse_settings_of_jobs(settings: DictConfig) -> None:
    """Refuse settings that only the jobs of ``-m`` have, in a command that has none: Hydra would ignore them."""
    for word in map(str, settings.overrides.hydra):
        if word.lstrip("+").startswith(FOR_JOBS):
            instead = "; one run has hydra.run.dir" if word.startswith("hydra.sweep.dir") else ""
            raise LacunaError(f"{word} is for the jobs of -m: add -m{instead}.")


# ------------------------------------------------------------------ many jobs by a plugin


def launch(command: Command, words: list[str], settings: DictConfig) -> int:
    """The jobs of ``-m`` by a launcher plugin (joblib, submitit, ray); the exit code of all.

    Args:
        command: the command.
        words: its overrides, with the values that they list.
        settings: Hydra's.

    Raises:
        LacunaError: the launcher cannot run the jobs.
    """
    launcher = settings.runtime.choices["hydra/launcher"]
    given = [*words, *unasked(settings), "hydra.mode=MULTIRUN"]
    try:
        with hydra_for(command.configs, command.name) as app:
            batches = app.multirun(command.config_name, command, given)
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise LacunaError(
            f"hydra/launcher={launcher} failed: {type(error).__name__}: {reason} (HYDRA_FULL_ERROR=1 shows all)."
        ) from error
    return _total([job for batch in batches for job in batch])


def _total(jobs: list[Any]) -> int:
    """Print the jobs that did not end well; the exit code of all."""
    ended = [(" ".join(job.overrides or []), int(job.return_value)) for job in jobs]
    failed = [label for label, code in ended if code not in (DONE, MORE)]
    return conclude(failed, sum(code == MORE for _, code in ended), len(ended))


def conclude(failed: list[str], unfinished: int, count: int) -> int:
    """Print which jobs of a command failed and how many have more to do; the exit code of all."""
    lines = [f"{len(failed)} of {count} jobs failed:", *(f"  {label}" for label in failed)] if failed else []
    if unfinished:
        lines.append(f"{unfinished} of {count} jobs have more to do: run the same command again to continue.")
    for line in lines:
        print(line, file=sys.stderr, flush=True)
    return MORE if unfinished else CRASHED if failed else DONE


# ------------------------------------------------------------------ Hydra's defaults


@lru_cache(1)
def defaults() -> dict[str, str]:
    """Hydra's own folders of runs and sweeps, before their interpolations are resolved."""
    path = Path(hydra.__file__).parent / "conf" / "hydra" / "output" / "default.yaml"
    found = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(found, dict)
    found = found.get("hydra", found)
    return {name: str(found[name]["dir"]) for name in ("run", "sweep")}


def raw(settings: DictConfig, key: str) -> str:
    """A setting before its interpolations are resolved."""
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(settings, parent)._get_node(last)
    return str(node._value())
