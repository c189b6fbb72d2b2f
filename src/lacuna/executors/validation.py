"""Checks of the values in an ``executor`` config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lacuna.errors import LacunaError


def check_whole(key: str, value: int | None, least: int) -> None:
    """Check that a value is None or a whole number of at least ``least``.

    Raises:
        LacunaError: it is not; names ``executor.<key>``.
    """
    if value is not None and (type(value) is not int or value < least):
        raise LacunaError(f"executor.{key}={value} must be null or a whole number of at least {least}.")


def check_gpus(value: float | str | None) -> None:
    """Check that a value is None, ``auto``, or a number of GPUs: whole, or a fraction below 1 (a share of one GPU).

    Raises:
        LacunaError: it is not; names ``executor.gpus``.
    """
    if value is None or value == "auto":
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and (0 <= float(value) <= 1 or (float(value) > 1 and float(value).is_integer()))):
        raise LacunaError(f"executor.gpus={value} must be null, auto, a whole number, or a fraction between 0 and 1.")


def check_number(key: str, value: float) -> None:
    """Check that a value is a number above 0.

    Raises:
        LacunaError: it is not; names ``executor.<key>``.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise LacunaError(f"executor.{key}={value} must be a number above 0.")


def check_flag(key: str, value: bool) -> None:
    """Check that a value is true or false.

    Raises:
        LacunaError: it is not; names ``executor.<key>``.
    """
    if not isinstance(value, bool):
        raise LacunaError(f"executor.{key}={value} must be true or false.")


def check_lines(key: str, value: Any) -> tuple[str, ...]:
    """Lines of text from a config.

    Raises:
        LacunaError: it is no list of texts; names ``executor.<key>``.
    """
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(line, str) for line in value):
        raise LacunaError(f"executor.{key}={value} must be a list of lines, as in executor.{key}=['module load cuda'].")
    return tuple(value)


def check_sbatch(value: Any) -> dict[str, Any]:
    """Further parameters of ``sbatch``; those that are null are left out.

    Raises:
        LacunaError: they are not plain values by their names.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise LacunaError(f"executor.sbatch={value} must be a mapping, as in executor.sbatch={{constraint: a100}}.")
    for key, given in value.items():
        plain = isinstance(given, str | int | float) and given is not False
        if given is not None and not plain:
            raise LacunaError(f"executor.sbatch.{key}={given} must be a text, a number, or true if it takes no value.")
    return {str(key): given for key, given in value.items() if given is not None}
