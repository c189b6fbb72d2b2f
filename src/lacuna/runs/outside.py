"""Runs whose parts are of packages of others: what a stored run needs, and whether the code is still the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lacuna import plugins
from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe


@contextmanager
def reading(folder: RunFolder, packages: Any, how: str) -> Iterator[None]:
    """Permit the packages that the user named, to load a stored run; a line on stderr if their code has changed.

    Args:
        folder: of the run.
        packages: what the user named.
        how: what the user types to name some, with ``{}`` for a package: ``plugins=[{}]``.

    Raises:
        LacunaError: the run needs a package that the user did not name, or that is not installed.
    """
    recipe = folder.recipe
    with plugins.permit(packages):
        for each in recipe.graph():
            for package, name in plugins.outside_types(each.config):
                if package not in plugins.NETWORKS and not plugins.permitted(package):
                    command = how.format(package)
                    raise LacunaError(f"{folder.path} uses {name} of the package {package}: {command} imports it.")
        for recorded, here in changed(recipe):
            print(
                f"warning: {folder.path} was made with {recorded}, and {here} is installed: it may compute something "
                "else.",
                file=sys.stderr,
                flush=True,
            )
        yield


def check_unchanged(recipe: Recipe) -> None:
    """Check, before a run starts, that the code is the one in its recipe.

    Raises:
        LacunaError: a package was changed after the run was planned, or is another one on this machine.
    """
    for recorded, here in changed(recipe):
        raise LacunaError(
            f"{recipe.name} was planned with {recorded}, and {here} is installed here now: run the command again, and "
            "on a cluster install the same package on every machine."
        )


def changed(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(as recorded, as installed), in words, of every package that a recipe or its prerequisites use and that differs.

    Raises:
        LacunaError: a package is not installed.
    """
    seen = set()
    for each in recipe.graph():
        for package, recorded in each.config.get("plugins", {}).items():
            here = plugins.describe(package)
            if here != recorded and package not in seen:
                seen.add(package)
                yield plugins.words(package, recorded), plugins.words(package, here)
