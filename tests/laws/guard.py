"""Finds all classes of a family, wherever they are defined, so that none is left out of its law tests."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator

import lacuna


def subclasses(base: type) -> Iterator[type]:
    """All subclasses, at any depth."""
    for cls in base.__subclasses__():
        yield cls
        yield from subclasses(cls)


def family(base: type) -> set[type]:
    """The concrete classes of lacuna (not of tests) that are a ``base``; imports every module to know them."""
    for module in pkgutil.walk_packages(lacuna.__path__, "lacuna."):
        importlib.import_module(module.name)
    ours = {cls for cls in {base, *subclasses(base)} if cls.__module__.split(".")[0] == "lacuna"}
    return {cls for cls in ours if not inspect.isabstract(cls)}


def assert_all_listed(base: type, listed: Iterable[object], where: str) -> None:
    """Every concrete class of the family is the class of something in ``listed``."""
    found = family(base)
    assert found, f"there is no {base.__name__} at all"
    missing = sorted(f"{cls.__module__}.{cls.__qualname__}" for cls in found - {type(one) for one in listed})
    assert not missing, f"no law is tested of {', '.join(missing)}: add one to {where}"
