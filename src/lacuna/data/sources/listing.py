"""Which files of a user's folder are images: hidden files, results of lacuna and files of other kinds are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from lacuna.errors import LacunaError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
MARK = ".lacuna-results"
"""A file in a folder of results that is not known by its other files, say of completed images."""
_NO_DATA = ("__macosx", "thumbs.db", "desktop.ini")
"""What archivers and file managers add, beside names with a leading dot."""
_SHOWN = 3


class Listing:
    """The image files below a folder, in order of their paths, and what was left out.

    A link is followed; each file and each folder is read once.

    Args:
        root: the folder.
        key: its name in messages.
        known: further files that are in use, though no images: a table of labels.

    Raises:
        LacunaError: a link leads nowhere or back into the folder, or two names are one file.
    """

    def __init__(self, root: Path, key: str, known: Iterable[Path | None] = ()) -> None:
        self.root, self.key = root, key
        self._known = {path.resolve() for path in known if path is not None}
        self._folders: dict[Path, Path] = {root.resolve(): root}
        self._hidden: list[Path] = []
        self._hidden_images = 0
        self._others: list[Path] = []
        self._links: list[Path] = []
        self.results: list[Path] = []
        """Folders of results of lacuna, which are left out."""
        self.files: list[Path] = []
        """The image files."""
        self._walk(root)
        self.files.sort()
        self._refuse_doubles()

    @property
    def remarks(self) -> list[str]:
        """What was left out, and links that were followed: a line each."""
        lines = []
        if self._hidden_images:
            lines.append(f"{self._hidden_images} image(s) with hidden names are left out ({self._some(self._hidden)})")
        if self._others:
            kinds = Counter(path.suffix.lower() or "no ending" for path in self._others)
            listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            lines.append(
                f"{len(self._others)} file(s) of other kinds are left out: {listed} ({self._some(self._others)})"
            )
        if self._links:
            lines.append(f"{len(self._links)} link(s) are followed ({self._some(self._links)})")
        return lines

    def _some(self, paths: list[Path]) -> str:
        names = [path.relative_to(self.root).as_posix() for path in sorted(paths)]
        return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")

    def _walk(self, folder: Path) -> None:
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise LacunaError(f"{folder} cannot be read ({error.strerror}): mend or remove it.") from error
        for entry in entries:
            if _is_hidden(entry.name):
                self._count_hidden(entry)
            elif entry.is_dir():
                if is_result(entry):
                    self.results.append(entry)
                else:
                    self._enter(entry)
            elif entry.is_symlink() and not entry.exists():
                raise LacunaError(f"{entry} is a link that leads nowhere: mend or remove it.")
            else:
                self._add(entry)

    def _enter(self, folder: Path) -> None:
        real = folder.resolve()
        if folder.is_symlink():
            inside = any(real == seen or seen.is_relative_to(real) for seen in self._folders)
            if inside or real.is_relative_to(self.root.resolve()):
                raise LacunaError(
                    f"{folder} is a link to {real}, whose images are read anyway or which holds {self.root}: remove it."
                )
            self._links.append(folder)
        elif real in self._folders:
            raise LacunaError(f"{folder} and {self._folders[real]} are the same folder: remove the link to it.")
        self._folders[real] = folder
        self._walk(folder)

    def _add(self, file: Path) -> None:
        if file.suffix.lower() in ENDINGS and file.is_file():
            self.files.append(file)
            if file.is_symlink():
                self._links.append(file)
        elif file.resolve() not in self._known:
            self._others.append(file)

    def _count_hidden(self, entry: Path) -> None:
        """Count the images in what is hidden; it is not entered through links."""
        if entry.is_dir():
            inside = [] if entry.is_symlink() else [name for _, _, names in os.walk(entry) for name in names]
            images = sum(Path(name).suffix.lower() in ENDINGS for name in inside)
        else:
            images = int(entry.suffix.lower() in ENDINGS)
            if entry.name.lower() in _NO_DATA:
                self._others.append(entry)
        if images:
            self._hidden.append(entry)
            self._hidden_images += images

    def _refuse_doubles(self) -> None:
        found: dict[Path, Path] = {}
        for path in self.files:
            other = found.setdefault(path.resolve(), path)
            if other != path:
                raise LacunaError(f"{other} and {path} are the same file: remove the link.")


def content(file: Path) -> bytes:
    """What is in a file.

    Raises:
        LacunaError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise LacunaError(f"{file} cannot be read ({error.strerror}): mend or remove it.") from error


def is_result(folder: Path) -> bool:
    """Whether lacuna has written a folder: of all output, of one run, of prepared data, or one that bears the mark."""
    if (folder / MARK).is_file():
        return True
    if (folder / "recipe.json").is_file() and (folder / "status.json").is_file():
        return True
    if (folder / "provenance.json").is_file() and (folder / "train_images.npy").is_file():
        return True
    return any((folder / "runs").glob("*/recipe.json")) or any((folder / "data/prepared").glob("*/provenance.json"))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _NO_DATA
