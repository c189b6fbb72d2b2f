"""The config folders of one command: lacuna's own and those that the command line adds.

A folder is added by ``--config-dir DIR``, by ``hydra.searchpath=[file://DIR,pkg://package.configs]``, or by a plugin
package that has a folder ``configs``: one of ``plugins=[package]``, or one that an installed distribution announces in
the entry-point group ``lacuna.plugins``. lacuna's own files come first where two have the same name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import yaml

from lacuna.config.folders import Configs, read_yaml
from lacuna.errors import LacunaError
from lacuna.plugins import announced_packages

SEARCHPATH, PLUGINS = "hydra.searchpath", "plugins"


def with_added(
    configs: Configs, config_name: str, config_dir: str | None, words: list[str]
) -> tuple[Configs, list[str]]:
    """The config folders of a command, and its overrides without those that are thereby done.

    Args:
        configs: lacuna's own.
        config_name: the base config, which may name folders, too (``hydra: {searchpath: [...]}``).
        config_dir: value of ``--config-dir``.
        words: overrides.

    Raises:
        LacunaError: a folder that does not exist.
    """
    added = [] if config_dir is None else [_folder(Path(config_dir), f"--config-dir {config_dir}")]
    rest: list[str] = []
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key == SEARCHPATH:
            added += [_searched(entry, word) for entry in _strings(value, word)]
        else:
            rest.append(word)
            if key == PLUGINS:
                added += _of_packages(_strings(value, word))
    found = configs.with_folders(*added, *_of_packages(sorted(announced_packages())))
    own = read_yaml(found.file(config_name)).get("hydra") or {}
    named = own.get("searchpath") or [] if isinstance(own, dict) else []
    return found.with_folders(*(_searched(str(entry), f"{SEARCHPATH} in {config_name}.yaml") for entry in named)), rest


def _strings(value: str, word: str) -> list[str]:
    """A list as it stands behind ``=``; Hydra reads the words later and refuses what is no list."""
    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError:
        # Hydra's own grammar needs no quotes where YAML does
        found = [item.strip() for item in value.strip("[] ").split(",")]
    found = [found] if isinstance(found, str) else found
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise LacunaError(f"{word}: write a list, as in {word.partition('=')[0]}=[one,two].")
    return found


def _searched(entry: str, word: str) -> Path:
    scheme, sign, place = entry.partition("://")
    if not sign:
        return _folder(Path(entry), word)
    if scheme == "file":
        return _folder(Path(place), word)
    if scheme != "pkg":
        raise LacunaError(f"{word}: {entry} must begin with file:// or pkg://.")
    folders = [folder for package in [place.partition("/")[0]] for folder in _package_folders(package)]
    found = [folder / place.partition("/")[2] for folder in folders]
    if not any(folder.is_dir() for folder in found):
        raise LacunaError(f"{word}: there is no package {place}: install it, or name its folder with file://.")
    return next(folder for folder in found if folder.is_dir())


def _folder(path: Path, word: str) -> Path:
    if not path.is_dir():
        raise LacunaError(f"{word}: the folder {path.absolute()} does not exist.")
    return path


def _of_packages(packages: Iterable[str]) -> list[Path]:
    """The folders ``configs`` inside of packages; whether a package may be used is checked where it is used."""
    found = [folder / "configs" for package in packages for folder in _package_folders(package)]
    return [folder for folder in found if folder.is_dir()]


def _package_folders(package: str) -> list[Path]:
    """Where a package lies, found without importing it (a sub-package's parents are looked up as folders)."""
    top, *below = package.split(".")
    try:
        spec = importlib.util.find_spec(top) if top.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    return [Path(place).joinpath(*below) for place in (spec.submodule_search_locations or ())] if spec else []
