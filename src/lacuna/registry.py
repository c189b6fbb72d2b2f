"""Builds a component from its config: ``{type: "module.Class", **arguments}`` -> an object.

A ``type`` of two names is looked up only inside the family's own package. One of three or more,
``package.module.Class``, is a class from outside, whose package must be permitted (:mod:`lacuna.plugins`): a config or
a stored recipe alone never makes foreign code run. ``_target_`` is another word for ``type``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from lacuna import plugins
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
BASES = {
    "data": ("lacuna.data.sources.base.Source",),
    "mask": ("lacuna.data.masks.MaskScheme",),
    "density": ("lacuna.densities.base.Density",),
    "flow": ("lacuna.flows.acflow.ACFlow", "lacuna.flows.normal.NormalFlow"),
    "imputer": ("lacuna.imputers.base.Imputer",),
    "stem": ("lacuna.layers.stem.Stem",),
    "net": ("torch.nn.Module",),
    "task": ("lacuna.tasks.base.Task",),
    "features": ("torch.nn.Module",),
}
"""Family -> the classes of which a class from outside must be a subclass; families that are not here take none."""
NETWORK = "outside_net.OutsideNet"
"""The ``net`` that wraps a network of :data:`lacuna.plugins.NETWORKS`."""

# Keys of a component's config that say how it is used, not how it is built.
NOT_ARGUMENTS = frozenset({"type", "name", "prerequisites", "training", "hold_out", "complete", "light", "task"})
ALIAS = "_target_"


def find(family: str, type_name: str) -> type:
    """The class of a family, e.g. ``find("mask", "masks.Square")``.

    Raises:
        LacunaError: the family has no such module or class, or it is from outside and not permitted.
    """
    if is_network(family, type_name):
        return find("net", NETWORK)
    if plugins.package_of(type_name) is not None:
        return _outside(family, str(type_name))
    parts = str(type_name).split(".")
    if family not in PACKAGES or len(parts) != 2 or not _public(parts):
        raise LacunaError(f"{family}.type={type_name!r} is not of the form {_forms(family)}.")
    module_name = f"{PACKAGES[family]}.{parts[0]}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        own = " (a class from outside has three names, package.module.Class)" if plugins.permitted(parts[0]) else ""
        raise LacunaError(f"{family}.type={type_name}: there is no module {module_name}{own}.") from error
    found = getattr(module, parts[1], None)
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(f"{module_name}."):
        raise LacunaError(f"{family}.type={type_name}: {module_name} defines no class {parts[1]}.")
    return found


def is_network(family: str, type_name: Any) -> bool:
    """Whether a type is a network of torchvision or timm: ``torchvision.models.resnet18``, ``timm.resnet18``."""
    return family == "net" and plugins.package_of(type_name) in plugins.NETWORKS


def build(family: str, spec: Mapping[str, Any], *, offer: Mapping[str, Any] | None = None, **extra: Any) -> Any:
    """Build the component that ``spec`` describes.

    Args:
        family: a key of :data:`PACKAGES` or :data:`BASES`.
        spec: ``{type: "module.Class", **arguments}``.
        offer: optional arguments of the caller, passed only if the class has a parameter of that name.
        extra: further arguments of the caller (sizes, for example), always passed.

    Raises:
        LacunaError: an unknown type, an unknown, missing or wrong argument.
    """
    spec = with_types(spec, family)
    if "type" not in spec:
        raise LacunaError(f"{family} has no key 'type'.")
    cls = find(family, spec["type"])
    arguments = {key: value for key, value in spec.items() if key not in NOT_ARGUMENTS} | extra
    if is_network(family, spec["type"]):
        arguments["network"] = spec["type"]
    signature = inspect.signature(cls)
    arguments |= {key: value for key, value in (offer or {}).items() if key in signature.parameters}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise LacunaError(f"{family} ({spec['type']}): {error}.") from error
    try:
        made = cls(**arguments)
    except ValueError as error:  # classes that are also used without configs raise ValueError
        raise LacunaError(f"{family} ({spec['type']}): {error}") from error
    if family == "data" and (package := plugins.package_of(spec["type"])):
        made.code = plugins.describe(package)["hash"]
    return made


def with_types(config: Any, key: str) -> Any:
    """A config in which ``_target_``, Hydra's word, is replaced by ``type``, at every depth.

    Args:
        config: of a component.
        key: its name, for the message.

    Raises:
        LacunaError: both are there.
    """
    if isinstance(config, list | tuple):
        return type(config)(with_types(value, f"{key}[{number}]") for number, value in enumerate(config))
    if not isinstance(config, Mapping):
        return config
    if ALIAS in config and "type" in config:
        raise LacunaError(
            f"{key} has both type={config['type']} and {ALIAS}={config[ALIAS]}: leave out one, they are the same key."
        )
    return {"type" if name == ALIAS else name: with_types(value, f"{key}.{name}") for name, value in config.items()}


def _outside(family: str, type_name: str) -> type:
    """A class of a permitted package that is a subclass of the family's base class."""
    parts, what = type_name.split("."), f"{family}.type={type_name}"
    if family not in BASES:
        raise LacunaError(f"{what}: {family} takes lacuna's own types only, of the form module.Class.")
    if not _public(parts):
        raise LacunaError(f"{what} is not of the form {_forms(family)}.")
    plugins.check_permitted(parts[0], what)
    plugins.found(parts[0])
    module_name = ".".join(parts[:-1])
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise  # one that the package needs
        raise LacunaError(f"{what}: there is no module {error.name}.") from error
    found = getattr(module, parts[-1], None)
    if not inspect.isclass(found) or found.__module__.partition(".")[0] != parts[0]:
        raise LacunaError(f"{what}: {module_name} defines no class {parts[-1]}.")
    if not any(issubclass(found, _class_at(base)) for base in BASES[family]):
        raise LacunaError(f"{what} is no {family}: it must be a subclass of {' or '.join(BASES[family])}.")
    return found


def _class_at(path: str) -> type:
    module, _, name = path.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _public(parts: list[str]) -> bool:
    return all(part.isidentifier() and not part.startswith("_") for part in parts)


def _forms(family: str) -> str:
    forms = [*(["module.Class"] if family in PACKAGES else []), *(["package.module.Class"] if family in BASES else [])]
    return " or ".join(forms)
