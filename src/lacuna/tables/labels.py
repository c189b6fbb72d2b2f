"""What dashboards list the runs of tables by: one group a command, and as tags the tables and rows that show a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lacuna.tables.plan import Plan

MOST_TAGS = 12
"""A density serves dozens of rows."""
PREREQUISITE = "prerequisite"


def group_of(plan: Plan, table: Mapping[str, Any]) -> str:
    """The group of a plan's runs: ``logger.group``, the name of its only table, or that of the list of tables.

    Args:
        plan: the plan.
        table: the config group ``table``.
    """
    own = next((run.settings.mirrors.group for run in plan.runs.values()), None)
    return own or (plan.tables[0].spec.name if len(plan.tables) == 1 else str(table.get("name", "tables")))


def label(plan: Plan, group: str) -> None:
    """Give every run of a plan its group and tags, in its settings; runs that are not mirrored stay as they are."""
    if not any(run.settings.mirrors.names for run in plan.runs.values()):
        return
    tags: dict[str, dict[str, None]] = {identity: {} for identity in plan.runs}
    for table in plan.tables:
        for cell in table.cells:
            for recipe in cell.recipes:
                tags[recipe.identity] |= dict.fromkeys((table.spec.name, cell.row.label or cell.row.key))
                for needed in list(recipe.graph())[1:]:
                    tags[needed.identity] |= dict.fromkeys((table.spec.name, PREREQUISITE))
    for identity, run in plan.runs.items():
        run.settings = run.settings.labelled(group, list(tags[identity])[:MOST_TAGS])
