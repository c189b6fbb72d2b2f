"""What every source of images shares: it is prepared once, under a lock, into a :class:`PreparedData` folder."""

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

T = TypeVar("T")


def data_root(root: Path | str | None) -> Path:
    """The data folder.

    Raises:
        LacunaError: there is none.
    """
    if root is None or root == "":
        raise LacunaError("data.root is empty: set it to a folder for the data, say outputs/data.")
    return Path(root)


@dataclass(frozen=True)
class Content:
    """What a source has read: its splits and what to say about them."""

    description: Description
    splits: Mapping[str, Arrays]


class Source(ABC):
    """A set of complete (or a user's own, incomplete) images.

    The prepared arrays lie in ``<root>/prepared/<set_name>``; what is downloaded or was put there by the user lies in
    ``<root>`` as torchvision lays it out.
    """

    shape: tuple[int, int, int] | None = None
    """Image shape (C, H, W) where the set fixes it."""
    classes: int | None = None
    attributes: int | None = None
    """How many yes-or-no attributes its images may be labelled with, where they have no classes."""
    official_counts: Mapping[str, int] = MappingProxyType({})
    """Images per split of the published set; fewer means a sample."""
    official_splits: Mapping[str, str] = MappingProxyType({"train": "train", "test": "test"})
    """Our split -> the publisher's name of it, which a ``--reader`` is asked for."""
    users_own: bool = False
    """Whether the images are the user's, so that only their content, not their name, says which they are."""
    keys: Mapping[str, str] = MappingProxyType({})
    """Argument -> what the user calls it, where that is not ``data.<argument>``."""

    @property
    @abstractmethod
    def set_name(self) -> str:
        """Name of the prepared folder; sources whose arrays differ have different names."""

    @abstractmethod
    def read(self, root: Path, *, download: bool) -> Content:
        """Read the original files (uint8 arrays). Only called when the set is not prepared yet.

        Raises:
            LacunaError: files are missing or damaged and may not, or cannot, be downloaded.
        """

    def key(self, argument: str) -> str:
        """What a message calls one of the constructor's arguments."""
        return self.keys.get(argument, f"data.{argument}")

    def folder(self, root: Path | str | None) -> Path:
        """Where the prepared arrays lie."""
        return data_root(root) / "prepared" / self.set_name

    def prepare(self, root: Path | str | None, download: bool = True, *, force: bool = False) -> PreparedData:
        """The prepared set: what is there and intact, otherwise made now (once, however many processes ask).

        Args:
            root: the data folder.
            download: whether the network may be used.
            force: make it anew even where it exists.

        Raises:
            LacunaError: the original files are missing, the prepared ones are damaged, or ``root`` is empty.
        """
        return self.prepare_from(root, lambda: self.read(data_root(root), download=download), force=force)

    def prepare_from(
        self, root: Path | str | None, content: Callable[[], Content], *, force: bool = False
    ) -> PreparedData:
        """As :meth:`prepare`, from what ``content()`` returns instead of the original files."""
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
        """Whether the splits have the published numbers of images."""
        return all(len(splits[name].images) == n for name, n in self.official_counts.items() if name in splits)

    def fetch(self, root: Path, download: bool, get: Callable[[bool], T]) -> T:
        """Call ``get(download)`` (a torchvision data set, say) and turn its failures into one sentence with the fix."""
        command = f"`python scripts/prepare.py {self.set_name} --root {root}`"
        try:
            return get(download)
        except ModuleNotFoundError:
            raise
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            if not download:
                raise LacunaError(
                    f"The files of {self.set_name} are missing from {root} or damaged, and data.download=false forbids "
                    f"fetching them: run {command} where there is a network, or give it arrays with --train and --test."
                ) from error
            reason = " ".join(str(error).split())[:200]
            raise LacunaError(
                f"{self.set_name} could not be downloaded to {root} ({reason}): check the network and run {command} "
                "again, or give it arrays with --train and --test."
            ) from error
