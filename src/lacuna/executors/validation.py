"""Checks of the values in an ``executor`` config."""

from __future__ import annotations

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
