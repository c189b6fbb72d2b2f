"""From a part's config to the part: ``{type: "module.Class", **arguments}`` -> an object.

The ``type`` is looked up inside the family's own package only, so a config or a stored recipe can name the
classes of lacuna and nothing else: reading somebody's run never runs somebody's code.
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

# Keys of a part's config that say how it is used, not how it is built.
NOT_ARGUMENTS = frozenset({"type", "name", "prerequisites", "training", "hold_out", "complete", "light", "task"})


def find(family: str, type_name: str) -> type:
    """The class ``module.Class`` of a family, e.g. ``find("mask", "masks.Square")``."""
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
    """Build the part ``spec`` describes.

    Args:
        family: which package to look in.
        spec: ``{type: "module.Class", **arguments}``.
        offer: what the caller has to give, taken only where the class has a parameter of that name.
        extra: arguments that only the caller can know (sizes, say).

    Raises:
        LacunaError: an unknown type, an argument the class does not take, one it needs and lacks, or a wrong value.
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
    except ValueError as error:  # what a class says of its arguments when it is used without configs
        raise LacunaError(f"{family} ({spec['type']}): {error}") from error
