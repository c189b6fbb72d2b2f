"""``train.py`` up to its first training step, in its own process, with the times at which each stage ended.

    BENCH_START=<time.time()> python scripts/bench/_first_step.py experiment=digits_zero ...

Prints JSON: stage -> seconds since BENCH_START.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

BEGUN = float(os.environ["BENCH_START"])
marks: dict[str, float] = {}


def mark(stage: str) -> None:
    marks[stage] = time.time() - BEGUN


Note = Callable[[], None]


def around(owner: Any, name: str, before: Note | None = None, after: Note | None = None) -> None:
    """Call ``before`` and ``after`` around a function of a module or class."""
    function = getattr(owner, name)

    @functools.wraps(function)  # Lightning inspects the parameters of training_step
    def called(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before()
        result = function(*args, **kwargs)
        if after is not None:
            after()
        return result

    setattr(owner, name, called)


def composed() -> None:
    from lacuna.runs import environment
    from lacuna.verbs import train

    mark("compose")
    around(train, "prepare_data", after=lambda: mark("data"))
    around(environment, "set_up", before=imported)


def imported() -> None:
    """Called when torch, Lightning and lacuna have been imported."""
    import pytorch_lightning as pl

    from lacuna.tasks.base import Task
    from lacuna.training import run

    mark("imports")
    around(run, "rehearse", after=lambda: mark("rehearsal"))
    around(pl.Trainer, "fit", before=lambda: mark("model and data"))
    around(Task, "training_step", after=stepped)


def stepped() -> None:
    mark("Lightning and step")
    print(json.dumps(marks), flush=True)
    os._exit(0)


if __name__ == "__main__":
    mark("python")
    from lacuna.config import compose as composing
    from lacuna.verbs import command as cli

    around(composing, "compose", after=composed)
    sys.exit(cli.verb("train", "lacuna.verbs.train:main")(sys.argv[1:]))
