"""Measure the kinds of steps of a plan on one card before its runs start (``executor.gpus=auto``)."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lacuna.runs.environment import hardware
from lacuna.runs.machine import cores, environment, visible_gpus
from lacuna.runs.recipe import FEATURES
from lacuna.throughput.bench import LEVELS, Bench
from lacuna.throughput.card import CardMemory, card_memory, least_free
from lacuna.throughput.measurements import Measurements, most_that_fit
from lacuna.throughput.pool import Pool
from lacuna.throughput.step_kinds import Kind, batch_size, values_of_a_step

SECONDS = 240.0
"""Most seconds that measuring takes."""
SHARE_OF_LIMIT = 0.2
"""Largest share of the time limit of a command."""
TIMING = 2.0
"""Seconds of each timing."""
LEAST_STEPS = 2000
"""Runs with fewer steps in all are over before measuring them pays."""
ALONE = 0.5
"""Share of the time after which no further kind is measured alone; the rest is for several runs at a time."""
CONTEXT = 768 * 2**20
"""Bytes that CUDA takes for a process beside its tensors; used where the driver says less, or nothing."""
FRAGMENTS = 1.25
"""Bytes that torch reserves per byte in use, at most; used where the driver says less, or nothing."""
RESIDENT = 8e9
"""Most bytes of images that a run keeps on its card (``trainer.resident_gb``)."""
CACHE = 4e9
"""Most bytes that a run caches there (``trainer.cache_gb``)."""


@dataclass(frozen=True)
class ProbeRequest:
    """What to measure.

    Args:
        kinds: of the runs that can share a card, the most costly ones first.
        output: folder of runs; measurements are kept below it.
        root: data folder.
        accelerator: ``trainer.accelerator``.
        seconds: that measuring may take; 0: use only what is kept.
        threads: of each run; None: an equal share of the cores of this machine.
        cards: number of cards that share these cores.
    """

    kinds: tuple[Kind, ...]
    output: Path
    root: Path
    accelerator: str
    seconds: float = SECONDS
    threads: int | None = None
    cards: int = 1


def probe(request: ProbeRequest, memory: CardMemory | None = None) -> Measurements | None:
    """Measure on the first visible card what is not kept yet, and keep it.

    Args:
        request: what to measure.
        memory: of the card with the least free memory; None: the driver is asked.

    Returns:
        All that is known about this kind of card; None if the memory of a card is not known.
    """
    memory = memory or least_free(visible_gpus())
    if memory is None:
        return None
    known = Measurements.load(request.output, hardware(request.accelerator))
    known.memory = memory.free
    wanted = [kind for kind in request.kinds if pays(kind) and "side_by_side" not in known.rows.get(kind.key, {})]
    if wanted and request.seconds > 0:
        _Probe(request, known).run(wanted)
    for kind in request.kinds:  # these may have more images than those that were measured
        row = known.rows.get(kind.key, {})
        if "ms" in row:
            row["memory"] = max(row.get("memory", 0), memory_of_a_run(kind, row))
    if wanted:
        known.save(request.output)
    return known


def pays(kind: Kind) -> bool:
    """Whether the runs of a kind have so many steps that measuring one is worth its time."""
    return sum(kind.steps) >= LEAST_STEPS


class _Probe:
    def __init__(self, request: ProbeRequest, known: Measurements) -> None:
        self.request, self.known = request, known
        self.until = time.monotonic() + request.seconds
        self.card = next(iter(visible_gpus()), None)
        self._before = self._warm = self._asked()

    def run(self, wanted: Sequence[Kind]) -> None:
        """Measure alone, then several at a time, as many kinds as there is time for."""
        print(
            f"executor.gpus=auto: measuring steps on one GPU, up to {self.request.seconds:.0f} s ...",
            file=sys.stderr,
            flush=True,
        )
        visible = {} if self.card is None else {"CUDA_VISIBLE_DEVICES": self.card}
        with environment(visible), Pool(max(LEVELS)) as pool:
            bench = Bench(
                pool,
                root=self.request.root,
                work=self.request.output / ".cache" / "throughput",
                accelerator=self.request.accelerator,
                seconds=TIMING,
                time_left=self._left,
                threads=self._threads,
            )
            for kind in wanted:
                if self._left() < (1 - ALONE) * self.request.seconds or not self._alone(bench, kind):
                    break
            measured = [kind for kind in wanted if "ms" in self.known.rows.get(kind.key, {})]
            for kind in sorted(measured, key=lambda kind: -sum(kind.steps) * self.known.rows[kind.key]["ms"]):
                row = self.known.rows[kind.key]
                most = most_that_fit(row, self.known.memory)
                if not bench.together(kind, row, most):
                    break

    def _alone(self, bench: Bench, kind: Kind) -> bool:
        if kind.key in self.known.rows:
            return True
        self._warm = None
        row = bench.alone(kind, self._look)
        if row is None:
            return False
        if "ms" in row:
            row["process"] = int(max(self._seen(), FRAGMENTS * row["bytes"] + CONTEXT))
            row["memory"] = memory_of_a_run(kind, row)
        self.known.rows[kind.key] = row
        return True

    def _look(self) -> None:
        """Ask the driver while the one process of the pool holds all that a run needs."""
        self._warm = self._asked()

    def _seen(self) -> int:
        """Bytes by which the memory in use has grown; 0: not known."""
        return 0 if self._warm is None or self._before is None else self._warm.used - self._before.used

    def _asked(self) -> CardMemory | None:
        return None if self.card is None else card_memory(self.card)

    def _left(self) -> float:
        return self.until - time.monotonic()

    def _threads(self, number: int) -> int:
        return self.request.threads or max(1, cores() // (number * self.request.cards))


def memory_of_a_run(kind: Kind, row: Mapping[str, Any]) -> int:
    """Bytes of a card that a run of a kind takes.

    Steps were measured with a part of the training images. A run has all of them on its card, and caches what frozen
    models make of them; both are added here, as the most that they can be.

    Args:
        kind: of the run.
        row: its measurement, with ``process``: bytes of the process that was measured.
    """
    missing = max(0, kind.images - row["images"])
    values = values_of_a_step(kind.recipe) / batch_size(kind.recipe)
    images = min(RESIDENT, missing * values * 2)  # a byte for the value, at most one for the mask
    frozen = any(name != FEATURES for name in kind.recipe.prerequisites)
    cached = CACHE * missing / kind.images if frozen else min(CACHE, missing * values * 8)
    return int(row["process"] + images + cached)
