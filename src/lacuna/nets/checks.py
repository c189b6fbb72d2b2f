"""What the sizes of a network must be like: mistakes are found before torch stumbles over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lacuna.errors import LacunaError


def check_count(key: str, value: Any) -> None:
    """Refuse anything but a whole number of at least 1."""
    if not _whole(value):
        raise LacunaError(f"{key}={value} must be a whole number of at least 1.")


def check_counts(key: str, values: Any) -> None:
    """Refuse anything but one or more whole numbers of at least 1."""
    if not _is_list(values) or not values or not all(map(_whole, values)):
        raise LacunaError(f"{key}={values} must be a list of one or more whole numbers of at least 1, such as [16,32].")


def check_kernel(key: str, size: Any) -> None:
    """Refuse even sizes, with which an image would come out larger than it went in."""
    if not _whole(size) or size % 2 == 0:
        raise LacunaError(f"{key}={size}: the size of a kernel must be odd, such as 3 or 5.")


def check_stage(key: str, stage: Any, blocks: int = 1) -> None:
    """Refuse anything but [filters, number of blocks] with at least so many blocks."""
    if not _is_list(stage) or len(stage) != 2 or not (_whole(stage[0]) and _whole(stage[1], blocks)):
        raise LacunaError(f"{key}={stage} must be [filters, number of blocks], such as [64,2].")


def check_stages(key: str, stages: Any, first: int = 1) -> None:
    """Refuse anything but one or more [filters, number of blocks]; the first stage has at least ``first`` blocks."""
    if not _is_list(stages) or not stages:
        raise LacunaError(f"{key}={stages} needs one or more [filters, number of blocks], such as [[32,1],[64,2]].")
    for number, stage in enumerate(stages):
        check_stage(f"{key}[{number}]", stage, 1 if number else first)


def check_variant(key: str, variant: Any) -> None:
    """Refuse anything but the two variants there are."""
    if variant not in ("paper", "authors"):
        raise LacunaError(f"{key}={variant!r} is neither 'paper' nor 'authors'.")


def _whole(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
