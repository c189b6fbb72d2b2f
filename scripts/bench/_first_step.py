"""Run ``train.py`` up to its first training step, in a separate process, and record when each stage ends.

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

STARTED = float(os.environ["BENCH_START"])
marks: dict[str, float] = {}


def mark(stage: str) -> None:
    marks[stage] = time.time() - STARTED


Hook = Callable[[], None]


def around(owner: Any, name: str, before: Hook | None = None, after: Hook | None = None) -> None:
    """Call hooks before and after a function of a module or class."""
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
    """Torch, Lightning and all of lacuna are imported now."""
    import pytorch_lightning as pl

    from lacuna.tasks.base import Task
    from lacuna.training import run

    mark("imports")
    around(run, "validate", after=lambda: mark("rehearsal"))
    around(pl.Trainer, "fit", before=lambda: mark("model and data"))
    around(Task, "step", after=stepped)


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
