"""Checks of the sizes of networks, with messages that name the setting; each raises :class:`LacunaError`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lacuna.errors import LacunaError


def check_count(key: str, value: Any) -> None:
    """Check that ``value`` is a whole number of at least 1."""
    if not _whole(value):
        raise LacunaError(f"{key}={value} must be a whole number of at least 1.")


def check_counts(key: str, values: Any) -> None:
    """Check that ``values`` is a list of one or more whole numbers of at least 1."""
    if not _is_list(values) or not values or not all(map(_whole, values)):
        raise LacunaError(f"{key}={values} must be a list of one or more whole numbers of at least 1, such as [16,32].")


def check_kernel(key: str, size: Any) -> None:
    """Check that a kernel's size is odd: with an even one the output would be larger than the input."""
    if not _whole(size) or size % 2 == 0:
        raise LacunaError(f"{key}={size}: the size of a kernel must be odd, such as 3 or 5.")


def check_stage(key: str, stage: Any, blocks: int = 1) -> None:
    """Check that ``stage`` is [filters, number of blocks] with at least ``blocks`` blocks."""
    if not _is_list(stage) or len(stage) != 2 or not (_whole(stage[0]) and _whole(stage[1], blocks)):
        raise LacunaError(f"{key}={stage} must be [filters, number of blocks], such as [64,2].")


def check_stages(key: str, stages: Any, first: int = 1) -> None:
    """Check that ``stages`` is a list of [filters, number of blocks]; the first has at least ``first`` blocks."""
    if not _is_list(stages) or not stages:
        raise LacunaError(f"{key}={stages} needs one or more [filters, number of blocks], such as [[32,1],[64,2]].")
    for number, stage in enumerate(stages):
        check_stage(f"{key}[{number}]", stage, 1 if number else first)


def check_variant(key: str, variant: Any) -> None:
    """Check that ``variant`` is ``paper`` or ``authors``."""
    if variant not in ("paper", "authors"):
        raise LacunaError(f"{key}={variant!r} is neither 'paper' nor 'authors'.")


def _whole(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
