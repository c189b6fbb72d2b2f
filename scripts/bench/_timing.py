"""Measurement of the benchmarks: functions take turns, and the best turn of each counts.

Other work of the machine only adds time, and much of it to threads that wait for each other: on a busy machine the
median would measure that work.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping

import torch

from lacuna.runs.environment import tune_malloc

TURN = 0.02
"""Length of a turn in seconds: a short function is called repeatedly."""


def layer_options(description: str, turns: int) -> argparse.Namespace:
    """Options of the benchmarks of layers and densities from the command line; also sets up torch."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--factors", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=turns)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    tune_malloc()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    return options


def best(functions: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Smallest number of seconds per call of every function.

    The functions take turns, so that other work of the machine affects all of them equally. The first call of each is
    not counted.
    """
    calls = {name: max(1, round(TURN / _seconds(function, 1, warm=True))) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(turns):
        for name, function in functions.items():
            times[name].append(_seconds(function, calls[name]))
    return {name: min(measured) for name, measured in times.items()}


def _seconds(function: Callable[[], object], calls: int, warm: bool = False) -> float:
    if warm:
        function()
    _wait()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    _wait()
    return max(time.perf_counter() - start, 1e-9) / calls


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
