"""What the next machine needs to go on: checkpoints of unfinished runs, and weights that others are built on."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from pathlib import Path

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe

MOST = 15_000_000
"""Bytes of one file that come back from a machine."""
LEFT_OUT = ("pictures", ".lock")


def pack_runs(runs: Iterable[Recipe], output: Path, file: Path, most: int = MOST) -> tuple[list[str], list[str]]:
    """Put run folders into one archive as long as there is room; names of those packed and of those left out.

    Unfinished runs with a checkpoint go in whole; of finished ones those that an unfinished run of ``runs`` needs.
    Folders that need least room go first; no archive is written where there is nothing to pack.
    """
    recipes = list(runs)
    unfinished = [recipe for recipe in recipes if not RunFolder.of(output, recipe).finished]
    needed = {other.identity: other for recipe in unfinished for other in recipe.prerequisites.values()}
    begun = [recipe for recipe in unfinished if RunFolder.of(output, recipe).resumable]
    weights = [recipe for recipe in needed.values() if RunFolder.of(output, recipe).finished]
    chosen = {recipe.identity: RunFolder.of(output, recipe).path for recipe in [*weights, *begun]}
    folders = sorted(chosen.values(), key=_bytes)
    packed: list[str] = []
    total = 0
    for folder in folders:
        total += _bytes(folder)
        if total <= most:
            packed.append(folder.name)
    file.unlink(missing_ok=True)
    if packed:
        with files.replacing(file) as temporary, tarfile.open(temporary, "w:gz", compresslevel=1) as archive:
            for name in packed:
                for path in _kept(output / "runs" / name):
                    archive.add(path, arcname=str(path.relative_to(output)))
    return packed, [folder.name for folder in folders if folder.name not in packed]


def unpack_runs(file: Path, output: Path) -> None:
    """Take what :func:`pack_runs` wrote into an output folder; runs that are there already stay as they are.

    Raises:
        LacunaError: the file is none of these.
    """
    there = {path.name for path in (output / "runs").glob("*")}
    try:
        with tarfile.open(file, "r:gz") as archive:
            members = [member for member in archive.getmembers() if _run_of(member.name) not in there]
            archive.extractall(output, members=members, filter="data")
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise LacunaError(
            f"resume={file} cannot be unpacked ({error}): give a resume.tgz that was made here."
        ) from error


def _run_of(name: str) -> str:
    parts = Path(name).parts
    if len(parts) < 3 or parts[0] != "runs":
        raise ValueError(f"{name} is no file of a run")
    return parts[1]


def _kept(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if not set(path.relative_to(folder).parts) & set(LEFT_OUT)]


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in _kept(folder))
