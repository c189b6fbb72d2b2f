"""Reading the file that a training resumes from, without executing code from it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from lacuna.errors import LacunaError

LAST = "last.ckpt"
"""Name of the file in a run's ``checkpoints/``."""
KEY = "lacuna"
"""Key of what lacuna adds to Lightning's checkpoint."""


def read(path: Path) -> dict[str, Any]:
    """The checkpoint at ``path``, whatever recipe it belongs to (``[KEY]["recipe"]``); never executes code from it.

    Raises:
        LacunaError: the file is missing, damaged, or holds anything but plain values and tensors.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        _ = state[KEY]["recipe"]
    except FileNotFoundError as error:
        raise LacunaError(f"{path} does not exist.") from error
    except pickle.UnpicklingError as error:
        raise LacunaError(
            f"{path} is no checkpoint of lacuna or is damaged (it holds more than plain values, and code in a "
            "checkpoint is never executed): delete it and run the command again."
        ) from error
    except (RuntimeError, EOFError, KeyError, TypeError, ValueError, OSError) as error:
        raise LacunaError(
            f"{path} is damaged: delete it and run the command again (the run then starts from its beginning)."
        ) from error
    return state


def load(path: Path, recipe_hash: str) -> dict[str, Any]:
    """The checkpoint at ``path`` of a recipe.

    Raises:
        LacunaError: as :func:`read`, or it is another recipe's.
    """
    state = read(path)
    found = state[KEY]["recipe"]
    if found != recipe_hash:
        raise LacunaError(
            f"{path} belongs to recipe {found}, not to this run's {recipe_hash}: delete it or use another run folder."
        )
    return state
