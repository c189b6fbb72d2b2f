"""The options of ``scripts/gpu.py``. Read without Hydra, which may have to be installed from wheels first."""

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
"""Of the time, in per cent. What a part leaves of its share goes to those after it."""
ACCELERATORS = ("auto", "cuda", "cpu")
BUDGETS = ("paper", "quick", "smoke")
SETS = ("mnist", "cifar10", "svhn")
NAMES = {"data": "packed images and load.py", "wheels": "wheels of Hydra and what it needs"}


@dataclass(frozen=True)
class Options:
    """What the user asks for.

    Args:
        output: folder of the result files; a few small ones, without sub-folders.
        data: folder of packed images with their reader, ``load.py``; None: no images, so that no cells can be made.
        work: folder of everything else: prepared images, runs, caches. The same folder goes on from there.
        wheels: folder of wheels to install where Hydra is missing.
        resume: ``resume.tgz`` of an earlier machine, unpacked into ``work`` first.
        minutes: the whole time.
        accelerator: auto, cuda or cpu.
        budget: of the steps and the cells: paper, or quick or smoke to rehearse.
        parts: those of ``PARTS`` to do, in their order.
        shares: of the time, in per cent, for the parts in their order.
        tables: whose runs are timed.
        cells: data sets whose cells are made, in this order.
        runs: runs side by side in the cells; None: as many as the steps found best, or 4 a GPU.
        seconds: for which the steps of a run are timed.
        commit: of the source, for the record, where there is no repository to ask.
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
        _known("accelerator", [self.accelerator], ACCELERATORS)
        _known("budget", [self.budget], BUDGETS)
        _known("parts", self.parts, PARTS)
        _known("cells", self.cells, SETS)
        for key in ("minutes", "seconds"):
            if not 0 < getattr(self, key) < math.inf:
                raise LacunaError(f"{key}={getattr(self, key)} must be a number above 0.")
        if self.runs is not None and self.runs < 1:
            raise LacunaError(f"runs={self.runs} must be a whole number of at least 1.")
        if len(self.shares) != len(self.parts) or not all(0 < share < math.inf for share in self.shares):
            given = ",".join(f"{share:g}" for share in self.shares)
            raise LacunaError(f"shares={given} must be {len(self.parts)} numbers above 0, one for each of the parts.")
        for key in ("data", "wheels"):
            folder = getattr(self, key)
            if folder is not None and not folder.is_dir():
                raise LacunaError(f"{key}={folder} is no folder: name the one that holds the {NAMES[key]}.")
        if self.data is not None and not (self.data / "load.py").is_file():
            raise LacunaError(f"data={self.data} has no load.py: name the folder that holds the images' reader.")
        if self.resume is not None and not self.resume.is_file():
            raise LacunaError(f"resume={self.resume} is no file: name the resume.tgz of an earlier machine.")


def parse(words: Sequence[str]) -> Options:
    """Options from ``key=value`` words.

    Raises:
        LacunaError: a word that is no option, a value that means nothing, or no output.
    """
    given: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or key not in _READ:
            near = difflib.get_close_matches(key, _READ, n=1)
            hint = f"did you mean {near[0]}=? " if near else ""
            raise LacunaError(f"{word!r} is no option: {hint}The options are {', '.join(f'{k}=' for k in _READ)}.")
        if key in given:
            raise LacunaError(f"{key}= is given twice: leave out one.")
        try:
            given[key] = _READ[key](value)
        except ValueError as error:
            raise LacunaError(f"{word} cannot be read: give {_KINDS[key]}.") from error
    if "output" not in given:
        raise LacunaError("output is missing: name a folder for the result files with output=DIR.")
    if "parts" in given:
        _known("parts", given["parts"], PARTS)
        given["parts"] = tuple(sorted(given["parts"], key=PARTS.index))
        given.setdefault("shares", tuple(SHARES[part] for part in given["parts"]))
    return Options(**given)


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


def _known(key: str, given: Sequence[str], known: Sequence[str]) -> None:
    unknown = [value for value in given if value not in known]
    if unknown:
        raise LacunaError(f"{key}={unknown[0]} is none of {', '.join(known)}.")


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
