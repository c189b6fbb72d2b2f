"""Packages of others whose classes a config may name: which are permitted, and what of them a recipe records.

``type: my_package.my_module.MyImputer`` (three or more names) is a class from outside; lacuna's own types have two.
Such a package is imported only where the user named it (``plugins=[my_package]``, ``lacuna.load(run, plugins=[...])``)
or, for new runs, where an installed distribution announces it by an entry point in the group ``lacuna.plugins``. A
stored recipe permits nothing: reading somebody's run never runs somebody's code.

Nothing here imports a package, nor torch: its files are found and hashed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, TypeVar

from lacuna.errors import LacunaError
from lacuna.extras import install

GROUP = "lacuna.plugins"
"""The group of entry points by which an installed distribution announces its package."""
NETWORKS = ("torchvision", "timm")
"""Packages that ``net.type`` may name without more ado. Only their version is recorded: published under one, their
files do not change, and hashing thousands of them takes seconds."""
DIGITS = 12
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Permission:
    """What may be imported: packages by name and, if ``announced``, those of entry points."""

    packages: frozenset[str] = frozenset()
    announced: bool = False

    def includes(self, package: str) -> bool:
        """Whether a package may be imported."""
        return package in self.packages or (self.announced and package in announced_packages())


NOTHING = Permission()
# a variable of the context, so that permissions of one thread are not those of another
_permission: ContextVar[Permission] = ContextVar("permission", default=NOTHING)


@contextmanager
def permit(packages: Any, *, announced: bool = False) -> Iterator[None]:
    """Permit packages inside a ``with`` block, besides those that are permitted already.

    Args:
        packages: their names, as in ``plugins=[my_package]``.
        announced: permit those of installed distributions' entry points, too: for new runs, not for stored ones.

    Raises:
        LacunaError: a name that is no package's, or of a package that is not installed.
    """
    before, names = _permission.get(), package_names(packages)
    for name in names:
        found(name)
    token = _permission.set(Permission(before.packages | set(names), before.announced or announced))
    try:
        yield
    finally:
        _permission.reset(token)


def permitting(main: F) -> F:
    """A verb's ``main(config, ...)``, in which the packages of ``plugins=`` and announced ones are permitted."""

    @functools.wraps(main)
    def inside(config: Mapping[str, Any], *arguments: Any, **named: Any) -> Any:
        with permit(config["plugins"], announced=True):
            return main(config, *arguments, **named)

    return inside  # type: ignore[return-value]


def permitted(package: str) -> bool:
    """Whether a package may be imported here."""
    return _permission.get().includes(package)


def package_names(value: Any) -> tuple[str, ...]:
    """The names in ``plugins=[...]``.

    Raises:
        LacunaError: it is no list of names of packages.
    """
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in value):
        raise LacunaError(f"plugins={value} must be a list of packages, such as plugins=[my_package].")
    for name in value:
        top = name.partition(".")[0]
        if top == "lacuna" or not name.isidentifier():
            advice = "lacuna's own parts need no plugins" if top == "lacuna" else f"name the package, plugins=[{top}]"
            raise LacunaError(f"plugins=[{name}]: {advice}.")
    return tuple(value)


def package_of(type_name: Any) -> str | None:
    """The package of an outside class, ``package.module.Class``; None for lacuna's own, ``module.Class``."""
    parts = str(type_name).split(".")
    outside = len(parts) > 2 or (len(parts) == 2 and parts[0] in NETWORKS)
    return parts[0] if outside else None


def outside_types(config: Any) -> Iterator[tuple[str, str]]:
    """(package, type) of every outside class that a config or recipe names, without those of its prerequisites."""
    if isinstance(config, Mapping):
        name = config.get("type")
        package = package_of(name) if isinstance(name, str) else None
        if package is not None:
            yield package, str(name)
        for key, value in config.items():
            if key != "prerequisites":
                yield from outside_types(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from outside_types(value)


def record(config: Mapping[str, Any]) -> dict[str, dict[str, str | None]]:
    """What a recipe records of the packages that it uses: version and hash of each; empty if it uses none.

    Raises:
        LacunaError: a package is not permitted here, or not installed.
    """
    used = dict(sorted(outside_types(config)))
    for package, name in used.items():
        if package not in NETWORKS:
            check_permitted(package, f"type={name}")
    return {package: describe(package) for package in used}


def check_permitted(package: str, what: str) -> None:
    """Check that a package may be imported here.

    Args:
        package: its name.
        what: names it, for the message.

    Raises:
        LacunaError: neither did the user name it, nor an installed distribution announce it.
    """
    if package == "lacuna":
        raise LacunaError(f"{what}: lacuna's own types are of the form module.Class, such as linear.Linear.")
    if not permitted(package):
        raise LacunaError(f"{what} is of the package {package}, which was not named: add plugins=[{package}].")


def describe(package: str) -> dict[str, str | None]:
    """Version (None if it is not installed as a distribution) and, of packages not in ``NETWORKS``, hash of a package.

    Raises:
        LacunaError: there is no such package.
    """
    where = found(package)
    if package in NETWORKS:  # the same code, whatever it is built for: 0.21.0+cpu, 0.21.0+cu124
        return {"version": (_version(package) or "").partition("+")[0]}
    return {"version": _version(package), "hash": _hash(_sources(package, where))}


def words(package: str, about: Mapping[str, Any]) -> str:
    """A package as recorded, in words: ``my_package 0.1 (hash 0123456789ab)``."""
    parts = [package, str(about.get("version") or "without version")]
    return " ".join([*parts, f"(hash {about['hash']})"] if about.get("hash") else parts)


def found(package: str) -> ModuleSpec:
    """Where a package lies. It is not imported: only the finders on ``sys.meta_path`` look for its name.

    Raises:
        LacunaError: there is no such package.
    """
    try:
        spec = importlib.util.find_spec(package)
        if spec is None:  # perhaps it was installed a moment ago
            importlib.invalidate_caches()
            spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None and package == "timm":
        raise LacunaError(f"A network of timm needs the package timm: {install('timm')}.")
    if spec is None:
        raise LacunaError(f"There is no package {package}: install it, or add the folder that holds it to PYTHONPATH.")
    return spec


@functools.cache
def announced_packages() -> frozenset[str]:
    """The packages that installed distributions announce."""
    entries = importlib.metadata.entry_points(group=GROUP)
    return frozenset(entry.value.partition(":")[0].partition(".")[0].strip() for entry in entries)


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        distributions = importlib.metadata.packages_distributions().get(package)
        return importlib.metadata.version(distributions[0]) if distributions else None


def _sources(package: str, spec: ModuleSpec) -> list[tuple[str, Path]]:
    """Name and path of all source files: ``*.py`` below the package's folders, or the file of a single module."""
    if spec.submodule_search_locations is None:
        files = [(Path(spec.origin).name, Path(spec.origin))] if spec.origin and Path(spec.origin).is_file() else []
    else:
        places = [Path(place) for place in spec.submodule_search_locations]
        files = sorted((path.relative_to(place).as_posix(), path) for place in places for path in place.rglob("*.py"))
    if not files:
        raise LacunaError(f"The package {package} has no source files that a recipe could record.")
    return files


def _hash(files: Iterable[tuple[str, Path]]) -> str:
    """A hash of names and contents; files are read again only if they have changed."""
    stats = [(name, path, path.stat()) for name, path in files]
    return _hash_of(tuple((name, str(path), stat.st_size, stat.st_mtime_ns) for name, path, stat in stats))


@functools.lru_cache(maxsize=64)
def _hash_of(files: tuple[tuple[str, str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, path, *_ in files:
        content = Path(path).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:DIGITS]
