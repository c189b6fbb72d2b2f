"""Which cells win: the best one is bold only if it beats every other beyond noise.

Noise between two cells is

* with two or more seeds each, the spread over seeds: Welch's t test (Welch, Biometrika 1947; two-sided, 5 %);
* otherwise, for an accuracy, the sampling error of so many test images: the interval of Agresti and Caffo (The American
  Statistician 2000) for the difference of two proportions, which adds a right and a wrong answer to each so that it
  holds for few images and near 0 and 1 too. All cells see the same test images, so it is wide rather than narrow; of
  what another seed would give it says nothing;
* otherwise unknown, and then nobody wins.

No further correction for looking at several rows: that one cell beats all the others is one claim, not k - 1, and
comparing it two-sidedly with each pays for having chosen it by looking (Gutmann and Maymin, Annals of Statistics 1987;
Hung and Fithian, Annals of Statistics 2019). So of the groups (columns) whose best cell is not really best at most 5 %
have it in bold. Between the groups of a table nothing is corrected either; the caption says so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lacuna.tables.gather import CellResult, Group, TableResult

BEST, TIE = "best", "tie"
LEVEL = 0.05
RESOLUTION = 1 / 12
"""Variance of rounding to whole steps: seeds that agree to the last test image have at least this spread."""


@dataclass(frozen=True)
class Sample:
    """What a comparison needs of a cell.

    Args:
        mean: over seeds.
        sd: over seeds; 0 for one seed.
        n: seeds.
        images: test images, if the metric is an accuracy; None otherwise.
    """

    mean: float
    sd: float = 0.0
    n: int = 1
    images: int | None = None


def margin(a: Sample, b: Sample, level: float = LEVEL) -> float | None:
    """How far apart two means must be to be called different; None where that cannot be said."""
    if a.n > 1 and b.n > 1:
        return _welch(a, b, level)
    if a.images and b.images:
        return _agresti_caffo(a, b, level)
    return None


def marks(samples: Sequence[Sample | None], better: str, level: float = LEVEL) -> list[str]:
    """``best``, ``tie`` or nothing for each cell of a group.

    ``best``: beats every other beyond noise. If no cell does, ``tie`` marks the one with the best mean and those that
    cannot be told from it. A hole (None) may be better than all, so a group with one has no ``best``; a group in which
    nothing can be compared has no marks.

    Args:
        samples: of the cells that compete; None for a hole.
        better: ``max`` or ``min``.
    """
    found = [""] * len(samples)
    there = {i: sample for i, sample in enumerate(samples) if sample is not None}
    if len(there) < 2:
        return found
    sign = 1 if better == "max" else -1
    first = max(there, key=lambda i: sign * there[i].mean)
    beaten = {i: _beaten(there[first], other, level) for i, other in there.items() if i != first}
    if all(verdict is None for verdict in beaten.values()):
        return found
    if all(beaten.values()) and len(there) == len(samples):
        found[first] = BEST
        return found
    for i in [first, *(i for i, verdict in beaten.items() if not verdict)]:
        found[i] = TIE
    return found


def table_marks(result: TableResult) -> dict[tuple[str, str], str]:
    """Marks of a whole table, by (row key, column key). References do not compete."""
    found: dict[tuple[str, str], str] = {}
    for group in result.groups:
        for rivals in competitors(group):
            given = marks([sample_of(rival) for rival in rivals], rivals[0].cell.better)
            cells = (rival.cell for rival in rivals)
            found |= {(c.row.key, c.column.key): mark for c, mark in zip(cells, given, strict=True) if mark}
    return found


def sample_of(cell: CellResult) -> Sample | None:
    """A cell as a comparison sees it; None for a hole."""
    if cell.mean is None:
        return None
    accuracy = cell.cell.metric.rpartition("/")[2] == "accuracy"
    return Sample(cell.mean, cell.sd or 0.0, cell.n, cell.test_images if accuracy else None)


def competitors(group: Group) -> list[list[CellResult]]:
    """The cells of a group that compete, those of the same metric on the same data together.

    References do not compete, nor does what is only measured: a smaller image is no better than a larger one.
    """
    found: dict[tuple[str, ...], list[CellResult]] = {}
    for member, result in group.members:
        first = result.cell.recipes[0] if result.cell.recipes else None
        if member.reference or group.axis.reference or (first is not None and first.measured):
            continue
        data = str(first.content["data"].get("fingerprint")) if first is not None else ""
        found.setdefault((result.cell.metric, result.cell.better, data), []).append(result)
    return list(found.values())


def _beaten(first: Sample, other: Sample, level: float) -> bool | None:
    needed = margin(first, other, level)
    return None if needed is None else abs(first.mean - other.mean) > needed


def _welch(a: Sample, b: Sample, level: float) -> float:
    squares = [max(s.sd**2, RESOLUTION / s.images**2 if s.images else 0.0) / s.n for s in (a, b)]
    total = sum(squares)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(square**2 / (s.n - 1) for square, s in zip(squares, (a, b), strict=True))
    return _t_quantile(freedom, 1 - level / 2) * math.sqrt(total)


def _agresti_caffo(a: Sample, b: Sample, level: float) -> float:
    """Half the interval, and how far its centre lies from the plain difference."""
    assert a.images and b.images
    shares = [(s.mean * s.images + 1) / (s.images + 2) for s in (a, b) if s.images]
    variance = sum(p * (1 - p) / (n + 2) for p, n in zip(shares, (a.images, b.images), strict=True))
    shift = abs(a.mean - b.mean) - abs(shares[0] - shares[1])
    return _t_quantile(math.inf, 1 - level / 2) * math.sqrt(variance) + shift


@functools.lru_cache(maxsize=4096)
def _t_quantile(freedom: float, probability: float) -> float:
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) if math.isinf(freedom) else stdtrit(freedom, probability))
