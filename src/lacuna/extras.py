"""Packages that only some options need: the name of the distribution, and the sentence where one is missing.

The extras are listed in ``pyproject.toml`` under ``project.optional-dependencies``.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from lacuna.errors import LacunaError

DISTRIBUTION = "lacuna-images"
"""What ``pip`` calls this package; its import name is ``lacuna``, which on the package index is somebody else's."""


def require(module: str, extra: str, what: str) -> Any:
    """Import a package that belongs to an extra.

    Args:
        module: what to import, e.g. ``"ray"`` or ``"torch.utils.tensorboard"``.
        extra: the extra that installs it, e.g. ``"ray"``.
        what: the option that needs it, as the user wrote it, e.g. ``"executor=ray"``.

    Returns:
        The imported module.

    Raises:
        LacunaError: the package, or one that it needs, is not installed or cannot be imported; the message says what
            to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        package = name.replace("_", "-")
        missing = isinstance(error, ModuleNotFoundError) and (error.name or name).partition(".")[0] == name
        reason = "" if missing else f" ({error})"
        raise LacunaError(f"{what} needs the package {package}{reason}: {install(extra)}.") from error


def install(extra: str) -> str:
    """The command that installs an extra: ``pip install 'DISTRIBUTION[extra]'``."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def installed(module: str) -> bool:
    """Whether a package can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
