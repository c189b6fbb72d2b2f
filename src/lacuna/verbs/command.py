"""The shell around every verb (``train.py``, ``evaluate.py``, ...).

A verb is a config name and a function: ``main = verb("train", "lacuna.verbs.train:main")``. This module turns the
command line into a resolved plain dict and calls the function with it. Hydra composes the config through its
compose API, so it makes no folders, changes no directory and takes over no logging. The function's module is imported
only when a job really starts: ``--help``, ``--cfg`` and a mistyped key answer at once, without torch.

With ``-m`` every combination runs in a fresh process of its own: no state, W&B run or distributed group can leak
from one job into the next, and one that fails stops nobody else.

Where a verb starts runs of its own, what stands behind ``--`` is for those, as it would stand behind ``train.py``.

Exit codes: 0 done, 1 a crash (with traceback), failed runs, or failed jobs under ``-m``, 2 a mistake the user can mend
(one sentence), 75 (``EX_TEMPFAIL`` of sysexits.h) there is more to do and the same command goes on, 130 interrupted.
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
        words, started = list(sys.argv[1:] if arguments is None else arguments), time.monotonic()
        try:
            return _run(config_name, target, configs or CONFIGS, words, started)
        except LacunaError as error:
            _say(f"error: {error}")
            return MISTAKE
        except KeyboardInterrupt:
            return _interrupted()
        except BrokenPipeError:
            # whoever read the output, head or less, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return CRASHED
        except SystemExit as error:
            # Lightning turns Ctrl-C into sys.exit(1); under it is still the interrupt.
            if isinstance(error.__context__, KeyboardInterrupt):
                return _interrupted()
            raise

    return main


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _interrupted() -> int:
    _say("interrupted: run the same command again to go on from here.")
    return INTERRUPTED


def _run(config_name: str, target: str, configs: Path, words: list[str], started: float) -> int:
    words, behind = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    flags = {word for word in words if word.startswith("-")}
    overrides = [word for word in words if not word.startswith("-")]
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
        more = ["--", *behind] if behind else []
        return _run_many([[*job, *more] for job in composing.jobs(configs, config_name, overrides)])
    config = composing.compose(configs, config_name, overrides)
    if behind:
        if "overrides" not in config:
            raise LacunaError(f"{config_name}.py takes nothing behind '--': write {behind[0]} before it.")
        config["overrides"] = behind
    if "--cfg" in flags:
        print(composing.to_yaml(config), end="", flush=True)
        return DONE
    return _call(target, config, {"words": overrides, "started": started})


def _call(target: str, config: dict[str, Any], more: dict[str, Any]) -> int:
    """Call a verb's function.

    Args:
        more: what a function gets that has a parameter of this name: ``words``, the overrides as they were typed, and
            ``started``, when the command began on the monotonic clock.
    """
    module_name, _, function_name = target.partition(":")
    function = getattr(importlib.import_module(module_name), function_name)
    wanted = inspect.signature(function).parameters
    result = function(config, **{name: value for name, value in more.items() if name in wanted})
    return result if type(result) is int else DONE


def _run_many(jobs: list[list[str]]) -> int:
    """Run every job in a process of its own; say at once which one failed, and at the end how many did."""
    failed: list[str] = []
    more = 0
    for number, overrides in enumerate(jobs, start=1):
        label = " ".join(overrides) or "(no overrides)"
        _say(f"[{number}/{len(jobs)}] {label}")
        code = _spawn([sys.executable, sys.argv[0], *overrides])
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code == MORE:
            more += 1
        elif code != DONE:
            failed.append(label)
            _say(f"[{number}/{len(jobs)}] failed with exit code {code}: {label}")
    if failed:
        _say(f"{len(failed)} of {len(jobs)} jobs failed:")
        for label in failed:
            _say(f"  {label}")
    if more:
        _say(f"{more} of {len(jobs)} jobs have more to do: run the same command again to go on.")
        return MORE
    return CRASHED if failed else DONE


def _spawn(command: list[str]) -> int:
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal sent Ctrl-C to the child as well: let it close its files first.
            process.wait()
            raise
