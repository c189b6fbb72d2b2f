"""One command for a machine with a GPU and no network: tests, step times and results within a time limit.

    python scripts/gpu.py minutes=12 data=DIR output=DIR

The parts are done in this order. Each has a share of the time and its own result file in ``output``, which is rewritten
at every change, so that little is lost if the command is killed:

  tests    tests.json     every test marked gpu
  steps    steps.json     milliseconds per training step of every task at the budget's sizes, on random images, for one
                          run and for 2, 4 and 8 runs at a time; from these the hours of all tables
  cells    cells.json     runs of the tables' cells, cheapest per published number first: MNIST (tables 1, 2, 6, 8, 9 of
                          MisConv), CIFAR-10, SVHN, then PRFlow on MNIST; several runs at a time; at the end of the
                          time they save their state and stop
  archive  archive.jsonl  every finished run, a line each, for scripts/archive.py; archive.json is the report
           resume.tgz     checkpoints and weights that another machine needs to go on, if small: pass it as resume=FILE

summary.txt has a line for each part. Everything else (prepared images, runs, caches) lies in ``work``.

Options:
  output=DIR         where the result files go
  data=DIR           packed images and their reader load.py (load_mnist, load_cifar10, load_svhn)
  minutes=12         the whole time
  accelerator=auto   auto, cuda or cpu
  wheels=DIR         wheels of hydra-core, omegaconf, the ANTLR runtime and rich, installed where Hydra is missing
  work=outputs/gpu   folder of everything else; a later command resumes from it
  resume=FILE        resume.tgz of an earlier machine
  budget=paper       paper, or quick or smoke for a rehearsal
  parts=tests,...    only these parts
  shares=20,30,45,5  percent of the time for each part, in their order
  tables=all         tables whose runs are timed
  cells=mnist,...    data sets whose cells are computed, in this order
  runs=N             runs at a time; default: the number that was fastest in the part steps
  seconds=1          duration of the timing of each kind of step
  commit=TEXT        commit of the source, recorded with every run if there is no repository

Exit codes: 0 success, 1 a test, a run or a part failed, 2 a mistake in the command, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.executors.signals import stop_on_signals
from lacuna.gpu import child_environment
from lacuna.gpu.deadline import Clock
from lacuna.gpu.handover import unpack_runs
from lacuna.gpu.options import Options, parse
from lacuna.gpu.results import Results, machine
from lacuna.runs.environment import COMMIT

DONE, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130


def main(words: Sequence[str]) -> int:
    """Run the command line; the module's docstring lists the exit codes."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return DONE
    try:
        return _run(parse(words))
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return MISTAKE
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on.", file=sys.stderr, flush=True)
        return INTERRUPTED


def _run(options: Options) -> int:
    stop_on_signals()
    clock = Clock(60 * options.minutes, dict(zip(options.parts, options.shares, strict=True)))
    for folder in (options.output, options.work):
        with files.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    child_environment.set_up(options.wheels, options.work, options.accelerator)
    if options.commit is not None:
        os.environ[COMMIT] = options.commit
    about = machine(options.accelerator)
    if options.accelerator == "cuda" and not about["gpus"] and not child_environment.torch_has_cuda():
        raise LacunaError(
            "accelerator=cuda: this machine has no GPU, or CUDA_VISIBLE_DEVICES hides it; use auto or cpu."
        )
    if options.resume is not None:
        unpack_runs(options.resume, options.work)
    from lacuna.gpu.session import Session  # its imports may have been installed from wheels just now

    session = Session(options, clock, Results(options.output, {"machine": about, "budget": options.budget}))
    clock.log(f"{about['hardware']}, {about['cores']} cores, torch {about['versions']['torch']}")
    return DONE if session.run() else FAILED
