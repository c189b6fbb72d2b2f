"""The command line of every verb (``train.py``, ``evaluate.py``, ...): arguments, help, several jobs, exit codes.

A verb is a config name and a function: ``main = verb("train", "lacuna.verbs.train:main")``. The function is called with
the resolved config as a plain dict. Everything is composed and checked first, so a mistake is one sentence; what is
Hydra's own (``--cfg job``, ``--info``, ``hydra.run.dir``, launcher plugins, ...) is then left to Hydra. Without it no
folders are made, no directory is changed and no logging is set up. The function's module is imported only when a job
starts: ``--help``, ``--cfg`` and a mistyped key answer at once, without torch.

Arguments behind ``--`` are for the runs that a verb starts, as arguments of ``train.py``.

Exit codes: 0 done, 1 a crash (with traceback), failed runs, or failed jobs of ``-m``, 2 a mistake in the arguments or
the data (one sentence), 75 (``EX_TEMPFAIL`` of sysexits.h) there is more to do and the same command continues, 130
interrupted, 143 interrupted by SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lacuna.config.folders import Configs
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.executors.signals import stop_on_signals
from lacuna.program import command_text
from lacuna.runs.outside_starters import refuse_copies
from lacuna.training.interrupts import forget_signals, signals_heard
from lacuna.verbs.arguments import Arguments, read_arguments
from lacuna.verbs.job import CRASHED, DONE, INTERRUPTED, MISTAKE, MORE, TERMINATED, Command, print_error

__all__ = ["CRASHED", "DONE", "INTERRUPTED", "MISTAKE", "MORE", "TERMINATED", "verb"]


def verb(config_name: str, target: str, configs: Configs = CONFIGS) -> Callable[..., int]:
    """The entry point of a verb: call it as ``sys.exit(main())``.

    Args:
        config_name: the base config in the config folder, without ``.yaml``.
        target: ``"package.module:function"``; called with the resolved config as a plain dict.
        configs: the config folders.
    """

    def main(arguments: Sequence[str] | None = None) -> int:
        given, started = list(sys.argv[1:] if arguments is None else arguments), time.monotonic()
        forget_signals()
        try:
            stop_on_signals()
            return _run(Command(config_name, target, configs, config_name), given, started)
        except LacunaError as error:
            print_error(error)
            return MISTAKE
        except KeyboardInterrupt:
            return _interrupted()
        except BrokenPipeError:
            return reader_left()
        except SystemExit as error:
            # Lightning turns Ctrl-C into sys.exit(1); its context is the interrupt
            if isinstance(error.__context__, KeyboardInterrupt):
                return _interrupted()
            raise

    return main


def reader_left() -> int:
    """The exit code where the reader of the output, head or less, has closed it; Python must not write there again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CRASHED


def _interrupted() -> int:
    print("interrupted: run the same command again to continue.", file=sys.stderr, flush=True)
    return TERMINATED if signal.SIGTERM in signals_heard() else INTERRUPTED


def _run(command: Command, words: list[str], started: float) -> int:
    refuse_copies()
    arguments = read_arguments(words)
    if arguments.version:
        print(_versions())
        return DONE
    command, overrides = _with_folders(command, arguments)
    if command.configs.file(command.config_name) is None:
        raise LacunaError(
            f"There is no {command.config_name}.yaml in {command.configs.places}: it is the base config of"
            f" {command_text(command.name)}."
        )
    if arguments.help:
        from lacuna.config.help import usage

        print(usage(command.config_name, command.configs), flush=True)
        return DONE
    if arguments.hydra_help or arguments.shell_completion:
        return _show(command, arguments, overrides)
    if arguments.multirun:
        from lacuna.verbs.jobs import run_jobs

        return run_jobs(command, overrides)
    return _run_one(command, arguments, overrides, started)


def _with_folders(command: Command, arguments: Arguments) -> tuple[Command, list[str]]:
    """The command with the folders and the base config that its options name, and the overrides that are left."""
    from lacuna.config.search_path import with_added

    configs, options = command.configs, []
    if arguments.config_path is not None:
        places = [Path(arguments.config_path), Path(sys.argv[0]).absolute().parent / arguments.config_path]
        found = next((place for place in places if place.is_dir()), None)
        if found is None:
            raise LacunaError(f"--config-path {arguments.config_path}: there is no such folder.")
        configs, options = Configs.of(found, *configs.added), ["--config-path", str(found.absolute())]
    name = (arguments.config_name or command.config_name).removesuffix(".yaml")
    configs, overrides = with_added(configs, name, arguments.config_dir, arguments.overrides)
    if configs.added:
        options += ["hydra.searchpath=[" + ",".join(f"'file://{folder}'" for folder in configs.added) + "]"]
    if arguments.config_name is not None:
        options += ["--config-name", name]
    behind = tuple(arguments.behind)
    return Command(command.name, command.target, configs, name, behind, tuple(options)), overrides


def _run_one(command: Command, arguments: Arguments, overrides: list[str], started: float) -> int:
    config, settings = command.compose(overrides)
    if arguments.cfg == "":
        from lacuna.config.compose import to_yaml

        print(to_yaml(config), end="", flush=True)
        return DONE
    if arguments.cfg or arguments.info:
        return _show(command, arguments, overrides)
    if "MULTIRUN" in str(settings.mode):
        from lacuna.verbs.jobs import run_jobs

        return run_jobs(command, overrides)

    from lacuna.verbs import hydra_app

    hydra_app.refuse_settings_of_jobs(settings)
    if hydra_app.asked(settings):
        return hydra_app.run(command, overrides, settings)
    return command.call(config, overrides, started)


def _show(command: Command, arguments: Arguments, overrides: list[str]) -> int:
    from lacuna.verbs import hydra_app

    hydra_app.show(command, arguments, overrides)
    return DONE


def _versions() -> str:
    from importlib.metadata import version

    import lacuna

    return f"lacuna {lacuna.__version__}, Hydra {version('hydra-core')}"
