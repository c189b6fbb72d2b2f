"""An archive for the next machine: checkpoints of unfinished runs, and weights of their prerequisites."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from pathlib import Path

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe

MAX_BYTES = 15_000_000
"""Largest file that can be brought back from a machine."""
LEFT_OUT = ("pictures", ".lock")


def pack_runs(runs: Iterable[Recipe], output: Path, file: Path, most: int = MAX_BYTES) -> tuple[list[str], list[str]]:
    """Pack run folders into one archive of at most ``most`` bytes, the smallest folders first.

    Packed are unfinished runs with a checkpoint, and finished runs that an unfinished one of ``runs`` needs. Without
    such runs no archive is written.

    Returns:
        Names of the packed runs, and of those that were left out.
    """
    recipes = list(runs)
    unfinished = [recipe for recipe in recipes if not RunFolder.of(output, recipe).finished]
    needed = {other.identity: other for recipe in unfinished for other in recipe.prerequisites.values()}
    started = [recipe for recipe in unfinished if RunFolder.of(output, recipe).resumable]
    weights = [recipe for recipe in needed.values() if RunFolder.of(output, recipe).finished]
    chosen = {recipe.identity: RunFolder.of(output, recipe).path for recipe in [*weights, *started]}
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
                for path in _files(output / "runs" / name):
                    archive.add(path, arcname=str(path.relative_to(output)))
    return packed, [folder.name for folder in folders if folder.name not in packed]


def unpack_runs(file: Path, output: Path) -> None:
    """Unpack an archive of :func:`pack_runs` into an output folder; runs that are there already are kept.

    Raises:
        LacunaError: the file is not such an archive.
    """
    present = {path.name for path in (output / "runs").glob("*")}
    try:
        with tarfile.open(file, "r:gz") as archive:
            members = [member for member in archive.getmembers() if _run_of(member.name) not in present]
            archive.extractall(output, members=members, filter="data")
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise LacunaError(
            f"resume={file} cannot be unpacked ({error}): use a resume.tgz that this command wrote."
        ) from error


def _run_of(name: str) -> str:
    parts = Path(name).parts
    if len(parts) < 3 or parts[0] != "runs":
        raise ValueError(f"{name} is not a file of a run")
    return parts[1]


def _files(folder: Path) -> list[Path]:
    files_in_folder = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in files_in_folder if not set(path.relative_to(folder).parts) & set(LEFT_OUT)]


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))
