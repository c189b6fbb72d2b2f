"""Plans from tables, a budget and folders, without the command line of ``reproduce.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.gpu.child_environment import ROOT
from lacuna.tables.options import RunOptions
from lacuna.tables.plan import Plan, plan_tables
from lacuna.tables.request import find_tables


def plan_of(
    tables: Sequence[str], composer: Composer, budget: str, root: Path, output: Path, trainer: Mapping[str, Any]
) -> Plan:
    """The plan of some tables at a budget, with one seed. Runs in the repository's archive count as done.

    Args:
        tables: choices of the group ``table``.
        composer: of ``train``'s configurations.
        budget: name of the budget.
        root: data folder; cells of data sets that are not prepared there have no runs.
        output: folder of the runs.
        trainer: settings of ``trainer`` that replace its own.

    Raises:
        LacunaError: a table that does not exist.
    """
    verb = Composer(CONFIGS, "reproduce", output / ".cache")
    config = verb.base([f"budget={budget}"])
    specs = [spec for name in tables for spec in find_tables(verb.base([f"table={name}"])["table"], verb)]
    infrastructure = {
        "output": str(output),
        "trainer": {**config["trainer"], **trainer},
        "logger": config["logger"],
        "data": {"root": str(root), "download": False},
    }
    plan = plan_tables(
        specs, composer, RunOptions(config["budget"], (0,), infrastructure=infrastructure, archive=ROOT / "results")
    )
    composer.save()
    verb.save()
    return plan
