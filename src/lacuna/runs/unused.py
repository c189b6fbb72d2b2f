"""Words of a command line that change nothing, because the run has no such part."""

from __future__ import annotations

from collections.abc import Iterable

from lacuna.runs.recipe import FEATURES, Recipe

COMPONENTS = ("density", "flow", "imputer", "stem", "net", FEATURES)
"""Parts that a config always has and a run often lacks."""


def unused_words(recipe: Recipe, words: Iterable[str]) -> list[str]:
    """The words that choose or change a part which neither the run nor its prerequisites have.

    Args:
        recipe: of the run.
        words: overrides as typed, such as ``density.training.lr=1e-4``.
    """
    used = {key for each in recipe.graph() for key in each.config}
    return [word for word in words if (part := _part(word)) in COMPONENTS and part not in used]


def _part(word: str) -> str:
    return word.lstrip("+").partition("=")[0].partition(".")[0].partition("@")[0]
