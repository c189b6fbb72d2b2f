"""Builds a component from its config: ``{type: "module.Class", **arguments}`` -> an object.

The ``type`` is looked up only inside the family's own package, so a config or a stored recipe can name only classes
of lacuna: loading a run never executes foreign code.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from lacuna.errors import LacunaError

PACKAGES = {
    "data": "lacuna.data.sources",
    "mask": "lacuna.data",
    "density": "lacuna.densities",
    "flow": "lacuna.flows",
    "imputer": "lacuna.imputers",
    "stem": "lacuna.layers",
    "net": "lacuna.nets",
    "task": "lacuna.tasks",
    "executor": "lacuna.executors",
}

# Keys of a component's config that say how it is used, not how it is built.
NOT_ARGUMENTS = frozenset({"type", "name", "prerequisites", "training", "hold_out", "complete", "light", "task"})


def find(family: str, type_name: str) -> type:
    """The class ``module.Class`` of a family, e.g. ``find("mask", "masks.Square")``.

    Raises:
        LacunaError: the family has no such module or class.
    """
    parts = str(type_name).split(".")
    if len(parts) != 2 or not all(part.isidentifier() and not part.startswith("_") for part in parts):
        raise LacunaError(f"{family}.type={type_name!r} is not of the form module.Class.")
    module_name = f"{PACKAGES[family]}.{parts[0]}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise LacunaError(f"{family}.type={type_name}: there is no module {module_name}.") from error
    found = getattr(module, parts[1], None)
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(f"{module_name}."):
        raise LacunaError(f"{family}.type={type_name}: {module_name} defines no class {parts[1]}.")
    return found


def build(family: str, spec: Mapping[str, Any], *, offer: Mapping[str, Any] | None = None, **extra: Any) -> Any:
    """Build the component that ``spec`` describes.

    Args:
        family: a key of :data:`PACKAGES`.
        spec: ``{type: "module.Class", **arguments}``.
        offer: optional arguments of the caller, passed only if the class has a parameter of that name.
        extra: further arguments of the caller (sizes, for example), always passed.

    Raises:
        LacunaError: an unknown type, an unknown, missing or wrong argument.
    """
    if "type" not in spec:
        raise LacunaError(f"{family} has no key 'type'.")
    cls = find(family, spec["type"])
    arguments = {key: value for key, value in spec.items() if key not in NOT_ARGUMENTS} | extra
    signature = inspect.signature(cls)
    arguments |= {key: value for key, value in (offer or {}).items() if key in signature.parameters}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise LacunaError(f"{family} ({spec['type']}): {error}.") from error
    try:
        return cls(**arguments)
    except ValueError as error:  # classes that are also used without configs raise ValueError
        raise LacunaError(f"{family} ({spec['type']}): {error}") from error
