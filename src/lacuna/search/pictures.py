"""Plots of a sweep as transparent PNG files, for light and dark pages. Imports no torch."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lacuna.search.problem import Problem
from lacuna.search.space import Parameter
from lacuna.search.study import Trial
from lacuna.search.view import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOT, BEST, FRAME = "#3f7fbf", "#d0458c", "#7d8591"
WIDTH = 7.0
"""Inches; a page is 62 rem wide."""

DPI = 140
COLUMNS = 3


def clipped(problem: Problem, values: Sequence[float]) -> list[float]:
    """Values with outliers clipped, so that a very bad trial does not hide all others in a plot.

    Values worse than the worse quartile by more than three interquartile ranges are set to that limit.
    """
    low, high = np.quantile(values, [0.25, 0.75])
    reach = 3 * (high - low)
    if problem.direction == "maximize":
        return [max(value, float(low - reach)) for value in values]
    return [min(value, float(high + reach)) for value in values]


def history(problem: Problem, trials: Sequence[Trial]) -> bytes:
    """The value of every trial in their order, and the best so far."""
    figure, (axes,) = _figure(1, 1, 3.0)
    numbers, values = [trial.number for trial in trials], _values(problem, trials)
    best = [values[0]]
    for value in values[1:]:
        best.append(value if problem.better(value, best[-1]) else best[-1])
    axes.plot(numbers, values, "o", color=DOT, markersize=5, alpha=0.8)
    axes.step(numbers, best, where="post", color=BEST, linewidth=1.8)
    axes.set_xlabel("trial")
    axes.set_ylabel(problem.metric)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _png(figure)


def bars(shares: Mapping[str, float]) -> bytes:
    """A bar for each name, the largest at the top."""
    figure, (axes,) = _figure(1, 1, 0.8 + 0.35 * len(shares))
    names = sorted(shares, key=lambda name: shares[name])
    drawn = axes.barh(names, [shares[name] for name in names], color=DOT, height=0.6)
    axes.bar_label(drawn, fmt="%.2f", padding=4, color=FRAME, fontsize=8)
    axes.set_xlim(0, max(1e-9, *shares.values()) * 1.12)
    axes.set_xlabel("importance")
    return _png(figure)


def slices(problem: Problem, ranked: Sequence[Trial]) -> bytes:
    """The value against each parameter.

    Args:
        ranked: finished trials, the best one first.
    """
    parameters = problem.parameters
    columns = 2 if len(parameters) == 4 else min(COLUMNS, len(parameters))
    rows = math.ceil(len(parameters) / columns)
    figure, every = _figure(rows, columns, 2.6 * rows)
    names = short_names([parameter.key for parameter in parameters])
    for axes in every[len(parameters) :]:
        axes.set_visible(False)
    for number, (axes, parameter) in enumerate(zip(every, parameters, strict=False)):
        _slice(axes, parameter, ranked, _values(problem, ranked))
        axes.set_xlabel(names[parameter.key])
        if number % columns == 0:
            axes.set_ylabel(problem.metric)
    return _png(figure)


def _values(problem: Problem, trials: Sequence[Trial]) -> list[float]:
    return clipped(problem, [trial.value for trial in trials if trial.value is not None])


def _slice(axes: Axes, parameter: Parameter, ranked: Sequence[Trial], values: Sequence[float]) -> None:
    if parameter.choices is not None:
        texts = [str(choice) for choice in parameter.choices]
        where = [texts.index(str(parameter.value(trial.raw[parameter.key]))) for trial in ranked]
        axes.set_xticks(range(len(texts)), texts)
        axes.set_xlim(-0.5, len(texts) - 0.5)
    else:
        where = [parameter.value(trial.raw[parameter.key]) for trial in ranked]
        if parameter.log:
            _logarithmic(axes, parameter.high / parameter.low)
    last = max(trial.number for trial in ranked) or 1
    shades = [f"{DOT}{round(255 * (0.3 + 0.7 * trial.number / last)):02x}" for trial in ranked]
    axes.scatter(where, values, c=shades, s=26, linewidths=0)
    axes.scatter(where[:1], values[:1], s=90, facecolors="none", edgecolors=BEST, linewidths=1.8)


def _logarithmic(axes: Axes, ratio: float) -> None:
    """A logarithmic axis with a few round numbers, also if it is shorter than a power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 1000 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _figure(rows: int, columns: int, height: float) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure  # imported here because it is slow; not pyplot, which keeps all figures

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    every: list[Any] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in every:
        axes.patch.set_alpha(0)
        axes.tick_params(colors=FRAME, labelsize=8)
        axes.xaxis.label.set_color(FRAME)
        axes.yaxis.label.set_color(FRAME)
        for side, spine in axes.spines.items():
            spine.set_color(FRAME)
            spine.set_visible(side in ("left", "bottom"))
        axes.grid(color=FRAME, alpha=0.2, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, every


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return buffer.getvalue()
