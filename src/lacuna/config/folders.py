"""The folders of config files: lacuna's own, then those that a user adds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

NOT_GROUPS = ("hydra",)
"""Folders of settings of Hydra itself."""


@dataclass(frozen=True)
class Configs:
    """Folders of config files. A name is looked up in their order, as in Hydra's search path.

    Args:
        folders: at least one; the first has the base configs of the verbs.
    """

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, *folders: Path) -> Configs:
        """These folders, as absolute paths, each once."""
        return cls(tuple(dict.fromkeys(folder.resolve() for folder in folders)))

    @property
    def main(self) -> Path:
        """The folder with the base configs of the verbs."""
        return self.folders[0]

    @property
    def added(self) -> tuple[Path, ...]:
        """The other folders."""
        return self.folders[1:]

    @property
    def places(self) -> str:
        """The folders as text for a message."""
        return " or ".join(map(str, self.folders))

    def with_folders(self, *more: Path) -> Configs:
        """With more folders, which come last."""
        return Configs.of(*self.folders, *more)

    def file(self, name: str) -> Path | None:
        """The file of a config such as ``train`` or ``mask/square``; None if there is none."""
        found = (folder / f"{name}.yaml" for folder in self.folders)
        return next((path for path in found if path.is_file()), None)

    def is_group(self, group: str) -> bool:
        """Whether some folder has this group."""
        return any((folder / group).is_dir() for folder in self.folders)

    def options(self, group: str) -> list[str]:
        """The names that can be chosen in a group, sorted; sub-folders give ``folder/name``.

        A file whose name begins with ``_`` is used by other configs and cannot be chosen.
        """
        found: set[str] = set()
        for folder in self.folders:
            paths = [path for path in (folder / group).rglob("*.yaml") if not path.name.startswith("_")]
            found |= {path.relative_to(folder / group).with_suffix("").as_posix() for path in paths}
        return sorted(found)

    @cached_property
    def groups(self) -> list[str]:
        """Every group, sorted."""
        children = [path for folder in self.folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()]
        return sorted({path.name for path in children if path.name not in NOT_GROUPS and any(path.rglob("*.yaml"))})

    @property
    def digest(self) -> str:
        """12 hexadecimal digits from the names, sizes and times of all files: whether any has changed."""
        rows = [row for folder in self.folders for row in (str(folder), *_rows(folder))]
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]


def _rows(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.yaml")):
        stat = path.stat()
        yield f"{path} {stat.st_size} {stat.st_mtime_ns}"


def read_yaml(path: Path | None) -> dict[str, Any]:
    """The mapping in a config file; empty where the file is damaged, for composing reports that."""
    if path is None:
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
