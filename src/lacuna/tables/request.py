"""From the configuration of ``reproduce.py`` to its tables and the options of their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lacuna.config.compose import split_overrides
from lacuna.config.composer import Composer
from lacuna.config.folders import Configs
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.plugins import package_names
from lacuna.tables.options import RunOptions
from lacuna.tables.spec import TableSpec, table_spec

FORMULAS = ("exact", "paper", "authors")
FORMULA = "stem.formula"


class Deadline(Protocol):
    """The end of a time limit; data are prepared before it only."""

    @property
    def reached(self) -> bool:
        """Whether the time is up."""


def find_tables(config: Mapping[str, Any] | None, composer: Composer) -> list[TableSpec]:
    """The tables of a config of the group ``table``: itself, or those that it lists.

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


def run_options(
    config: Mapping[str, Any],
    *,
    prepare: bool,
    limit: Deadline | None = None,
    assume_data: bool = False,
    configs: Configs = CONFIGS,
) -> RunOptions:
    """The options of all runs, from the verb's config.

    Args:
        config: of the verb.
        prepare: whether to prepare data sets that are not there, until the time limit.
        limit: the time limit; None: there is none.
        assume_data: whether to plan runs of missing data sets from their published counts.
        configs: the config folders.

    Raises:
        LacunaError: seeds that are no numbers, or an override that cannot be read.
    """
    choices, values = split_overrides(configs, [str(word) for word in config["overrides"]])
    for forbidden in ("seed", "output", "results", "budget", "trainer", "logger", "data.root", "data.download"):
        if any(
            key == forbidden or key.startswith(f"{forbidden}.")
            for key in [*values, *(c.split("=")[0] for c in choices)]
        ):
            raise LacunaError(f"{forbidden} cannot be set after --: set it before, with {forbidden}=... or seeds=... .")
    values = {**_formula(config, values), **values}
    infrastructure = {
        "output": str(config["output"]),
        "trainer": {**config["trainer"], "progress": False},
        "logger": config["logger"],
        "plugins": package_names(config.get("plugins", ())),
        "data": config["data"],
    }
    return RunOptions(
        budget=config["budget"],
        seeds=seeds_of(config["seeds"]),
        choices=choices,
        values=values,
        infrastructure=infrastructure,
        prepare=lambda: prepare and not (limit and limit.reached),
        assume_data=assume_data,
        archive=None if config["results"] is None else Path(str(config["results"])),
    )


def _formula(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """``formula=`` as an override; none for ``exact``, the value in all configs."""
    formula = config["formula"]
    if formula not in FORMULAS:
        raise LacunaError(f"formula={formula} must be one of {', '.join(FORMULAS)}.")
    if formula == "exact":
        return {}
    if FORMULA in values:
        raise LacunaError(
            f"formula={formula} and {FORMULA}={values[FORMULA]} after -- set the same key: leave out one."
        )
    return {FORMULA: formula}


def seeds_of(value: Any) -> tuple[int, ...]:
    """The seeds of a setting ``seeds``. None: seed 0. A number n: seeds 0 to n - 1. A list: these seeds.

    Raises:
        LacunaError: anything else, or a seed twice.
    """
    if value is None:
        return (0,)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return tuple(range(value))
    whole = isinstance(value, Sequence) and not isinstance(value, str) and all(type(seed) is int for seed in value)
    if whole and value and len(set(value)) == len(value):
        return tuple(value)
    raise LacunaError(
        f"seeds={value} must be a number of at least 1 or a list of different seeds, as in seeds=[0,1,2]."
    )
