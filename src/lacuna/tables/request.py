"""From the configuration of ``reproduce.py`` to the tables it asks for and what every run of theirs should be like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lacuna.config.compose import split_overrides
from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.tables.plan import Wishes
from lacuna.tables.spec import TableSpec, table_spec

FORMULAS = ("exact", "paper", "authors")
FORMULA = "stem.formula"


class Deadline(Protocol):
    """When to stop preparing data."""

    @property
    def over(self) -> bool:
        """Whether it has passed."""


def find_tables(config: Mapping[str, Any] | None, composer: Composer) -> list[TableSpec]:
    """The tables a config stands for: itself, or those that it lists.

    Raises:
        LacunaError: no table was chosen.
    """
    if not config:
        raise LacunaError("table is empty: choose one, for instance table=demo; --help lists them.")
    if "tables" not in config:
        return [table_spec(config)]
    found: list[TableSpec] = []
    for name in config["tables"]:
        found += find_tables(composer.base([f"table={name}"])["table"], composer)
    composer.save()
    return found


def wishes(config: Mapping[str, Any], *, prepare: bool, box: Deadline | None = None, assume: bool = False) -> Wishes:
    """What the verb's config asks of every run.

    Args:
        config: of the verb.
        prepare: whether to make data that are missing, as long as the ``box`` lasts.
        box: when to stop.
        assume: whether to plan with the published counts of what is missing.

    Raises:
        LacunaError: seeds that are no numbers, or an override that cannot be read.
    """
    choices, values = split_overrides(CONFIGS, [str(word) for word in config["overrides"]])
    for forbidden in ("seed", "output", "results", "budget", "trainer", "logger", "data.root", "data.download"):
        if any(
            key == forbidden or key.startswith(f"{forbidden}.")
            for key in [*values, *(c.split("=")[0] for c in choices)]
        ):
            raise LacunaError(f"{forbidden} is not set behind -- but before it, with {forbidden}=... or seeds=... .")
    values = {**_formula(config, values), **values}
    infrastructure = {
        "output": str(config["output"]),
        "trainer": {**config["trainer"], "progress": False},
        "logger": config["logger"],
        "data": config["data"],
    }
    return Wishes(
        budget=config["budget"],
        seeds=seeds_of(config["seeds"]),
        choices=choices,
        values=values,
        infrastructure=infrastructure,
        prepare=lambda: prepare and not (box and box.over),
        assume=assume,
        archive=None if config["results"] is None else Path(str(config["results"])),
    )


def _formula(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """``formula=`` as the value it stands for: nothing, where it is that of all configs."""
    formula = config["formula"]
    if formula not in FORMULAS:
        raise LacunaError(f"formula={formula} is none of {', '.join(FORMULAS)}.")
    if formula == "exact":
        return {}
    if FORMULA in values:
        raise LacunaError(
            f"formula={formula} and {FORMULA}={values[FORMULA]} behind -- say the same twice: leave out one."
        )
    return {FORMULA: formula}


def seeds_of(given: Any) -> tuple[int, ...]:
    """``None``: seed 0; a number: so many seeds from 0; a list: those."""
    if given is None:
        return (0,)
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return tuple(range(given))
    whole = isinstance(given, Sequence) and not isinstance(given, str) and all(type(seed) is int for seed in given)
    if whole and given and len(set(given)) == len(given):
        return tuple(given)
    raise LacunaError(
        f"seeds={given} must be a number of at least 1 or a list of different seeds, as in seeds=[0,1,2]."
    )
