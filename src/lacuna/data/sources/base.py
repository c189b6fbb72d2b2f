"""Base class of image sources: a source is prepared once, under a lock, into a :class:`PreparedData` folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from filelock import FileLock

from lacuna import files
from lacuna.data.prepared import Arrays, Description, PreparedData, write
from lacuna.errors import LacunaError
from lacuna.program import command_text

T = TypeVar("T")


def data_root(root: Path | str | None) -> Path:
    """The data folder as a path.

    Raises:
        LacunaError: it is not set.
    """
    if root is None or root == "":
        raise LacunaError("data.root is empty: set it to a folder for the data, say outputs/data.")
    return Path(root)


@dataclass(frozen=True)
class Content:
    """What a source has read: its splits and their description."""

    description: Description
    splits: Mapping[str, Arrays]


class Source(ABC):
    """A set of complete (or a user's own, incomplete) images.

    The prepared arrays are in ``<root>/prepared/<set_name>``. Original files, downloaded or provided by the user, are
    in ``<root>``, in torchvision's layout.
    """

    shape: tuple[int, int, int] | None = None
    """Image shape (C, H, W), if it is fixed."""
    classes: int | None = None
    attributes: int | None = None
    """Number of binary attributes per image, for a set without classes."""
    official_counts: Mapping[str, int] = MappingProxyType({})
    """Images per split of the published set; fewer means a sample."""
    official_splits: Mapping[str, str] = MappingProxyType({"train": "train", "test": "test"})
    """Our name of a split -> the publisher's, which is passed to a ``--reader``."""
    users_own: bool = False
    """Whether the images are the user's own, identified by their content and not by a name."""
    code: str = ""
    """Hash of the package of a class from outside, whose arrays are prepared again when its code has changed."""
    keys: Mapping[str, str] = MappingProxyType({})
    """Argument -> its name in messages, if that is not ``data.<argument>``."""

    @property
    @abstractmethod
    def set_name(self) -> str:
        """Name of the prepared folder; sources with different arrays have different names."""

    @abstractmethod
    def read(self, root: Path, *, download: bool) -> Content:
        """Read the original files as uint8 arrays. Called only if the set is not prepared yet.

        Raises:
            LacunaError: files are missing or damaged and may not, or cannot, be downloaded.
        """

    def key(self, argument: str) -> str:
        """The name of a constructor argument in messages."""
        return self.keys.get(argument, f"data.{argument}")

    def folder(self, root: Path | str | None) -> Path:
        """The folder of the prepared arrays."""
        return data_root(root) / "prepared" / (f"{self.set_name}-{self.code}" if self.code else self.set_name)

    def prepare(self, root: Path | str | None, download: bool = True, *, force: bool = False) -> PreparedData:
        """The prepared set; if it does not exist it is made now (once, even if several processes ask for it).

        Args:
            root: the data folder.
            download: whether the network may be used.
            force: make it again even if it exists.

        Raises:
            LacunaError: the original files are missing, the prepared ones are damaged, or ``root`` is empty.
        """
        return self.prepare_from(root, lambda: self.read(data_root(root), download=download), force=force)

    def prepare_from(
        self, root: Path | str | None, content: Callable[[], Content], *, force: bool = False
    ) -> PreparedData:
        """As :meth:`prepare`, but from the return value of ``content()`` instead of the original files."""
        folder = self.folder(root)
        if PreparedData.exists(folder) and not force:
            return PreparedData(folder)
        with files.disk_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.parent / f".{self.set_name}.lock")
            lock.acquire()
        try:
            if PreparedData.exists(folder) and not force:  # another process was faster
                return PreparedData(folder)
            made = content()
            return write(folder, made.description, made.splits)
        finally:
            lock.release()

    def is_complete(self, splits: Mapping[str, Arrays]) -> bool:
        """Whether all splits have the published numbers of images."""
        return all(len(splits[name].images) == n for name, n in self.official_counts.items() if name in splits)

    def fetch(self, root: Path, download: bool, get: Callable[[bool], T]) -> T:
        """Call ``get(download)``, which opens a torchvision data set, and explain its errors.

        Raises:
            LacunaError: files are missing or damaged; the message says how to get them.
        """
        command = f"`{command_text('prepare')} {self.set_name} --root {root}`"
        try:
            return get(download)
        except ModuleNotFoundError:
            raise
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            if not download:
                raise LacunaError(
                    f"The files of {self.set_name} are missing from {root} or damaged, and data.download=false forbids "
                    f"downloading them: run {command} with network access, or give it arrays with --train and --test."
                ) from error
            reason = " ".join(str(error).split())[:200]
            raise LacunaError(
                f"{self.set_name} could not be downloaded to {root} ({reason}): check the network and run {command} "
                "again, or give it arrays with --train and --test."
            ) from error
