"""The command line of every verb (``train.py``, ``evaluate.py``, ...): arguments, help, several jobs, exit codes.

A verb is a config name and a function: ``main = verb("train", "lacuna.verbs.train:main")``. The function is called with
the resolved config as a plain dict. Hydra composes it through its compose API, so it makes no folders, changes no
directory and sets up no logging. The function's module is imported only when a job starts: ``--help``, ``--cfg`` and a
mistyped key answer at once, without torch.

With ``-m`` every combination of values runs in a process of its own: jobs share no state, and one that fails does not
stop the others.

Arguments behind ``--`` are for the runs that a verb starts, as arguments of ``train.py``.

Exit codes: 0 done, 1 a crash (with traceback), failed runs, or failed jobs of ``-m``, 2 a mistake in the arguments or
the data (one sentence), 75 (``EX_TEMPFAIL`` of sysexits.h) there is more to do and the same command continues, 130
interrupted.
"""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError

DONE, CRASHED, MISTAKE, MORE, INTERRUPTED = 0, 1, 2, 75, 130


def verb(config_name: str, target: str, configs: Path | None = None) -> Callable[..., int]:
    """The entry point of a verb: call it as ``sys.exit(main())``.

    Args:
        config_name: the base config in the config folder, without ``.yaml``.
        target: ``"package.module:function"``; called with the resolved config as a plain dict.
        configs: the config folder; the repository's ``configs/`` if not given.
    """

    def main(arguments: Sequence[str] | None = None) -> int:
        given, started = list(sys.argv[1:] if arguments is None else arguments), time.monotonic()
        try:
            return _run(config_name, target, configs or CONFIGS, given, started)
        except LacunaError as error:
            _print(f"error: {error}")
            return MISTAKE
        except KeyboardInterrupt:
            return _interrupted()
        except BrokenPipeError:
            # the reader of the output, head or less, has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return CRASHED
        except SystemExit as error:
            # Lightning turns Ctrl-C into sys.exit(1); its context is the interrupt
            if isinstance(error.__context__, KeyboardInterrupt):
                return _interrupted()
            raise

    return main


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _interrupted() -> int:
    _print("interrupted: run the same command again to continue.")
    return INTERRUPTED


def _run(config_name: str, target: str, configs: Path, arguments: list[str], started: float) -> int:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    arguments, run_overrides = arguments[:end], arguments[end + 1 :]
    flags = {argument for argument in arguments if argument.startswith("-")}
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    unknown = flags - {"-h", "--help", "-m", "--multirun", "--cfg"}
    if unknown:
        raise LacunaError(f"Unknown option {sorted(unknown)[0]!r}: the options are -m, --cfg and --help.")
    if not (configs / f"{config_name}.yaml").is_file():
        raise LacunaError(f"{configs / (config_name + '.yaml')} does not exist: run from a checkout of the repository.")
    if flags & {"-h", "--help"}:
        from lacuna.config.help import usage

        print(usage(config_name, configs), flush=True)
        return DONE

    from lacuna.config import compose as composing

    if flags & {"-m", "--multirun"}:
        if "--cfg" in flags:
            raise LacunaError("--cfg prints one config and -m runs many: leave out one of the two.")
        ending = ["--", *run_overrides] if run_overrides else []
        return _run_many([[*job, *ending] for job in composing.jobs(configs, config_name, overrides)])
    config = composing.compose(configs, config_name, overrides)
    if run_overrides:
        if "overrides" not in config:
            raise LacunaError(f"{config_name}.py takes nothing behind '--': write {run_overrides[0]} before it.")
        config["overrides"] = run_overrides
    if "--cfg" in flags:
        print(composing.to_yaml(config), end="", flush=True)
        return DONE
    return _call(target, config, {"words": overrides, "started": started})


def _call(target: str, config: dict[str, Any], optional: dict[str, Any]) -> int:
    """Call a verb's function.

    Args:
        target: ``"package.module:function"``.
        config: its first argument.
        optional: passed to a function that has parameters of these names: ``words``, the overrides as they were typed,
            and ``started``, the start of the command on the monotonic clock.
    """
    module_name, _, function_name = target.partition(":")
    function = getattr(importlib.import_module(module_name), function_name)
    parameters = inspect.signature(function).parameters
    result = function(config, **{name: value for name, value in optional.items() if name in parameters})
    return result if type(result) is int else DONE


def _run_many(jobs: list[list[str]]) -> int:
    """Run every job in a process of its own; print each failure at once, and their number at the end."""
    failed: list[str] = []
    unfinished = 0
    for number, overrides in enumerate(jobs, start=1):
        label = " ".join(overrides) or "(no overrides)"
        _print(f"[{number}/{len(jobs)}] {label}")
        code = _spawn([sys.executable, sys.argv[0], *overrides])
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code == MORE:
            unfinished += 1
        elif code != DONE:
            failed.append(label)
            _print(f"[{number}/{len(jobs)}] failed with exit code {code}: {label}")
    if failed:
        _print(f"{len(failed)} of {len(jobs)} jobs failed:")
        for label in failed:
            _print(f"  {label}")
    if unfinished:
        _print(f"{unfinished} of {len(jobs)} jobs have more to do: run the same command again to continue.")
        return MORE
    return CRASHED if failed else DONE


def _spawn(command: list[str]) -> int:
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # the terminal sent Ctrl-C to the child as well: let it close its files first
            process.wait()
            raise
