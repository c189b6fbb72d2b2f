"""One command on a machine with a GPU and no network: tests, costs, results, all in a time box.

    python scripts/gpu.py minutes=12 data=DIR output=DIR

In this order, each with a share of the time and a result file of its own in ``output``, rewritten whenever there is
more, so that a kill loses little:

  tests    tests.json     every test marked gpu
  steps    steps.json     milliseconds a training step of every task at the budget's sizes, on random images, alone and
                          with 2, 4 and 8 runs side by side; from that the hours of all tables
  cells    cells.json     cells of the tables, cheapest per printed number first: MNIST (tables 1, 2, 6, 8, 9 of
                          MisConv), CIFAR-10, SVHN, then PRFlow on MNIST; several runs side by side, stopped in good
                          order
  archive  archive.jsonl  every finished run, a line each, for scripts/archive.py; archive.json says what became of them
           resume.tgz     what the next machine needs to go on, where it is small: give it back with resume=FILE

summary.txt has a line for each part. Everything else (prepared images, runs, caches) lies in ``work``.

Options:
  output=DIR         where the result files go
  data=DIR           packed images and their reader load.py (load_mnist, load_cifar10, load_svhn)
  minutes=12         the whole time
  accelerator=auto   auto, cuda or cpu
  wheels=DIR         wheels of hydra-core, omegaconf, the ANTLR runtime and rich, installed where Hydra is missing
  work=outputs/gpu   the same folder goes on from where it was left
  resume=FILE        resume.tgz of an earlier machine
  budget=paper       quick or smoke to rehearse
  parts=tests,...    only these parts
  shares=20,30,45,5  of the time, in per cent, for the parts in their order
  tables=all         whose runs are timed
  cells=mnist,...    data sets whose cells are made, in this order
  runs=N             runs side by side; by default as many as the steps found best
  seconds=1          for which the steps of a run are timed
  commit=TEXT        of the source, for the record of every run, where there is no repository to ask

Exit codes: 0 all that was begun went well, 1 a test, a run or a part failed, 2 a mistake of yours, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.executors.signals import stop_on_sigterm
from lacuna.gpu import child_environment as site
from lacuna.gpu.deadline import Clock
from lacuna.gpu.handover import unpack_runs
from lacuna.gpu.options import Options, parse
from lacuna.gpu.results import Results, machine
from lacuna.runs.environment import COMMIT

WELL, WRONG, MISTAKE, INTERRUPTED = 0, 1, 2, 130


def main(words: Sequence[str]) -> int:
    """Run the command line; see this module's text for the exit codes."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return WELL
    try:
        return _run(parse(words))
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return MISTAKE
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here.", file=sys.stderr, flush=True)
        return INTERRUPTED


def _run(options: Options) -> int:
    stop_on_sigterm()
    clock = Clock(60 * options.minutes, dict(zip(options.parts, options.shares, strict=True)))
    for folder in (options.output, options.work):
        with files.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    site.set_up(options.wheels, options.work, options.accelerator)
    if options.commit is not None:
        os.environ[COMMIT] = options.commit
    about = machine(options.accelerator)
    if options.accelerator == "cuda" and not about["gpus"] and not site.torch_has_cuda():
        raise LacunaError(
            "accelerator=cuda: this machine has no GPU, or CUDA_VISIBLE_DEVICES hides it; use auto or cpu."
        )
    if options.resume is not None:
        unpack_runs(options.resume, options.work)
    from lacuna.gpu.session import Session  # what it imports may have come from wheels just now

    session = Session(options, clock, Results(options.output, {"machine": about, "budget": options.budget}))
    clock.say(f"{about['hardware']}, {about['cores']} cores, torch {about['versions']['torch']}")
    return WELL if session.run() else WRONG
