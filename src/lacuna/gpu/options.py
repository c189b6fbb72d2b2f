"""The options of ``scripts/gpu.py``. They are read without Hydra, which may not be installed yet."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lacuna.errors import LacunaError

PARTS = ("tests", "steps", "cells", "archive")
SHARES = {"tests": 20.0, "steps": 30.0, "cells": 45.0, "archive": 5.0}
"""Percent of the time. Time that a part does not use goes to the parts after it."""
ACCELERATORS = ("auto", "cuda", "cpu")
BUDGETS = ("paper", "quick", "smoke")
SETS = ("mnist", "cifar10", "svhn")
NAMES = {"data": "packed images and load.py", "wheels": "wheels of Hydra and what it needs"}


@dataclass(frozen=True)
class Options:
    """The options of the command.

    Args:
        output: folder of the result files; a few small files, without sub-folders.
        data: folder of packed images with their reader, ``load.py``; None: no images, and so no cells.
        work: folder of everything else: prepared images, runs, caches. A later command resumes from it.
        wheels: folder of wheels to install if Hydra is missing.
        resume: ``resume.tgz`` of an earlier machine, unpacked into ``work`` first.
        minutes: time limit of the command.
        accelerator: auto, cuda or cpu.
        budget: of the steps and the cells: paper, or quick or smoke for a rehearsal.
        parts: the parts to do, of ``PARTS``, in their order.
        shares: percent of the time for each part, in their order.
        tables: tables whose runs are timed.
        cells: data sets whose cells are computed, in this order.
        runs: runs at a time in the cells; None: the number that was fastest in the part steps, or 4 per GPU.
        seconds: duration of the timing of each kind of step.
        commit: commit of the source, to be recorded if there is no repository.
    """

    output: Path
    data: Path | None = None
    work: Path = Path("outputs/gpu")
    wheels: Path | None = None
    resume: Path | None = None
    minutes: float = 12.0
    accelerator: str = "auto"
    budget: str = "paper"
    parts: tuple[str, ...] = PARTS
    shares: tuple[float, ...] = tuple(SHARES.values())
    tables: tuple[str, ...] = ("all",)
    cells: tuple[str, ...] = SETS
    runs: int | None = None
    seconds: float = 1.0
    commit: str | None = None

    def __post_init__(self) -> None:
        _check_known("accelerator", [self.accelerator], ACCELERATORS)
        _check_known("budget", [self.budget], BUDGETS)
        _check_known("parts", self.parts, PARTS)
        _check_known("cells", self.cells, SETS)
        for key in ("minutes", "seconds"):
            if not 0 < getattr(self, key) < math.inf:
                raise LacunaError(f"{key}={getattr(self, key)} must be a number above 0.")
        if self.runs is not None and self.runs < 1:
            raise LacunaError(f"runs={self.runs} must be a whole number of at least 1.")
        if len(self.shares) != len(self.parts) or not all(0 < share < math.inf for share in self.shares):
            shares = ",".join(f"{share:g}" for share in self.shares)
            raise LacunaError(f"shares={shares} must be {len(self.parts)} numbers above 0, one for each part.")
        for key in ("data", "wheels"):
            folder = getattr(self, key)
            if folder is not None and not folder.is_dir():
                raise LacunaError(f"{key}={folder} is not a folder: name the one with the {NAMES[key]}.")
        if self.data is not None and not (self.data / "load.py").is_file():
            raise LacunaError(f"data={self.data} has no load.py: name the folder with the reader of the images.")
        if self.resume is not None and not self.resume.is_file():
            raise LacunaError(f"resume={self.resume} is not a file: name the resume.tgz of an earlier machine.")


def parse(words: Sequence[str]) -> Options:
    """Options from ``key=value`` words.

    Raises:
        LacunaError: an unknown option, an invalid value, or no output.
    """
    options: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or key not in _READ:
            near = difflib.get_close_matches(key, _READ, n=1)
            hint = f"did you mean {near[0]}=? " if near else ""
            raise LacunaError(f"{word!r} is not an option: {hint}The options are {', '.join(f'{k}=' for k in _READ)}.")
        if key in options:
            raise LacunaError(f"{key}= appears twice: leave out one.")
        try:
            options[key] = _READ[key](value)
        except ValueError as error:
            raise LacunaError(f"{word} cannot be read: it must be {_KINDS[key]}.") from error
    if "output" not in options:
        raise LacunaError("output is missing: name a folder for the result files with output=DIR.")
    if "parts" in options:
        _check_known("parts", options["parts"], PARTS)
        options["parts"] = tuple(sorted(options["parts"], key=PARTS.index))
        options.setdefault("shares", tuple(SHARES[part] for part in options["parts"]))
    return Options(**options)


def _path(text: str) -> Path:
    if not text:
        raise ValueError
    return Path(text).expanduser().resolve()


def _list(text: str) -> tuple[str, ...]:
    found = tuple(word.strip() for word in text.strip("[]").split(",") if word.strip())
    if not found or len(set(found)) < len(found):
        raise ValueError
    return found


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.strip("[]").split(","))


def _check_known(key: str, values: Sequence[str], known: Sequence[str]) -> None:
    unknown = [value for value in values if value not in known]
    if unknown:
        raise LacunaError(f"{key}={unknown[0]} must be one of {', '.join(known)}.")


_READ: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("output", "data", "work", "wheels", "resume"), _path),
    **dict.fromkeys(("minutes", "seconds"), float),
    **dict.fromkeys(("accelerator", "budget", "commit"), str),
    **dict.fromkeys(("parts", "tables", "cells"), _list),
    "shares": _numbers,
    "runs": int,
}
_KINDS = {
    **dict.fromkeys(("output", "data", "work", "wheels"), "a folder"),
    "resume": "a file",
    **dict.fromkeys(("minutes", "seconds"), "a number"),
    **dict.fromkeys(("accelerator", "budget", "commit"), "a name"),
    **dict.fromkeys(("parts", "tables", "cells"), "different names with commas between them"),
    "shares": "numbers with commas between them",
    "runs": "a whole number",
}
assert set(_READ) == set(_KINDS) == {field.name for field in fields(Options)}
