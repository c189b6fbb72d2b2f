"""The numbers of the two papers' tables and the settings of their experiments, as data (``papers.yaml``).

Nothing here imports torch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lacuna.errors import LacunaError

PAPERS = Path(__file__).with_name("papers.yaml")
SETTINGS = "settings"
CHANGED, PUBLISHED, UNPUBLISHED, CUT = "changed", "paper", "full", "cut"
"""Labels of a recipe at the full budget: differs from the printed setting; as in the papers; no published setting;
fewer images than published."""
MISSING = object()


@functools.cache
def papers() -> dict[str, Any]:
    """The content of ``papers.yaml``."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: dict[str, Any] = yaml.load(PAPERS.read_text(encoding="utf-8"), loader)
    return found


def paper_table(name: str) -> dict[str, Any]:
    """The printed table ``paper/table`` (of PRFlow's ``paper/table/data``): ``columns`` and ``rows``.

    Raises:
        LacunaError: no paper has such a table.
    """
    paper, _, rest = name.partition("/")
    found: Any = papers().get(paper, {})
    table, _, part = rest.partition("/")
    found = found.get(table)
    if found is None or (part and part not in found):
        raise LacunaError(f"paper={name} names no table in papers.yaml.")
    if part:  # PRFlow's tables: one block of rows per data set, columns are the missing rates
        return {"columns": [f"{rate:g}" for rate in papers()[paper]["rates"]], "rows": found[part]}
    return {"columns": list(found["columns"]), "rows": found["rows"]}


@dataclass(frozen=True)
class Setting:
    """One setting of an experiment.

    Attributes:
        key: dotted key of a recipe.
        paper: the printed value, in the recipe's form; None if the paper gives none.
        code: value of the authors' code, if it is known and differs from the paper or the paper gives none.
        here: our value, if it is neither of the two.
        also: other values, used in separate rows.
        reason: why ours is not the printed value, or what the paper leaves open.
    """

    key: str
    paper: Any = None
    code: Any = None
    here: Any = None
    also: tuple[Any, ...] = ()
    reason: str = ""

    @property
    def expected(self) -> Any:
        """The value at ``budget=paper``: ours if it differs, else the paper's, else that of the authors' code."""
        return next((value for value in (self.here, self.paper, self.code) if value is not None), None)

    def accepts(self, value: Any) -> bool:
        """Whether a recipe with this value has the published setting."""
        return any(same(value, one) for one in (self.expected, *self.also))


@dataclass(frozen=True)
class Experiment:
    """The settings of one experiment, and which recipes they apply to.

    Attributes:
        name: in words: ``classifier of MNIST``.
        source: paper and section.
        where: dotted key -> value, or list of values, that a recipe of the experiment has.
        settings: by key.
        general: whether the settings are shared by many experiments, so that they alone do not make a recipe a paper's.
        variant: whether this is a published variant (such as the authors' code) and not the printed setting.
    """

    name: str
    source: str
    where: Mapping[str, Any]
    settings: Mapping[str, Setting]
    general: bool = False
    variant: bool = False

    def about(self, recipe: Mapping[str, Any]) -> bool:
        """Whether ``recipe`` is one of the experiment."""
        for key, wanted in self.where.items():
            value = at(recipe, key)
            if value not in (wanted if isinstance(wanted, list) else [wanted]):
                return False
        return True

    def differences(self, recipe: Mapping[str, Any]) -> Iterator[tuple[Setting, Any]]:
        """The settings in which a recipe differs, with the recipe's value (None if it lacks the key)."""
        for setting in self.settings.values():
            value = at(recipe, setting.key)
            if not setting.accepts(None if value is MISSING else value):
                yield setting, None if value is MISSING else value


@functools.cache
def experiments() -> tuple[Experiment, ...]:
    """All experiments with published settings, in the order of ``papers.yaml``: general ones first.

    An entry may start from the settings of another one (``like: name``) and drop some of them (``null``).
    """
    found: dict[str, Experiment] = {}
    for entry in papers()[SETTINGS]["experiments"]:
        values = dict(found[entry["like"]].settings) if "like" in entry else {}
        for key, given in (entry.get("values") or {}).items():
            if given is None:
                values.pop(key, None)
                continue
            options = dict(given) if isinstance(given, Mapping) else {"paper": given}
            values[key] = Setting(key, **{**options, "also": tuple(options.get("also", ()))})
        found[entry["name"]] = Experiment(
            name=entry["name"],
            source=entry["source"],
            where=entry["where"],
            settings=values,
            general=bool(entry.get("general")),
            variant=bool(entry.get("variant")),
        )
    return tuple(found.values())


def experiments_of(recipe: Mapping[str, Any]) -> list[Experiment]:
    """The experiments that a recipe belongs to."""
    return [experiment for experiment in experiments() if experiment.about(recipe)]


def label(recipe: Mapping[str, Any]) -> str:
    """The label of a recipe at the full budget: ``paper``, ``changed``, ``cut`` or ``full``."""
    found = experiments_of(recipe)
    if all(one.general for one in found):
        return UNPUBLISHED
    if recipe["data"].get("validation"):
        return CUT
    changed = any(one.variant or any(True for _ in one.differences(recipe)) for one in found)
    return CHANGED if changed else PUBLISHED


def at(recipe: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, or :data:`MISSING`."""
    found: Any = recipe
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return MISSING
        found = found[part]
    return found


def same(one: Any, other: Any) -> bool:
    """Equality as in JSON: 1 equals 1.0, True does not equal 1; lists and tuples are equal if their items are."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
