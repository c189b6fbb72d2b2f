"""What the values of an ``executor`` config may be."""

from __future__ import annotations

from lacuna.errors import LacunaError


def whole(key: str, value: int | None, least: int) -> None:
    """Refuse what is neither None nor a whole number of at least ``least``.

    Raises:
        LacunaError: names ``executor.<key>``.
    """
    if value is not None and (type(value) is not int or value < least):
        raise LacunaError(f"executor.{key}={value} must be null or a whole number of at least {least}.")


def gpu_share(value: float | None) -> None:
    """Refuse what is neither None nor a number of GPUs; below 1 it is a share of one.

    Raises:
        LacunaError: names ``executor.gpus``.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and (0 <= value <= 1 or (value > 1 and float(value).is_integer()))):
        raise LacunaError(f"executor.gpus={value} must be null, a whole number, or a fraction between 0 and 1.")
