"""Plans for tests: a data folder with the digits, and what `reproduce.py` would wish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lacuna.config.compose import compose
from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.tables.options import RunOptions
from lacuna.tables.plan import Plan, plan_tables
from lacuna.tables.spec import TableSpec, table_spec

TABLE: dict[str, Any] = {
    "name": "tests/table",
    "title": "A table",
    "metric": "test/accuracy",
    "cell": ["experiment=digits_{row}"],
    "columns": {"square": {"label": "square"}, "noise": {"label": "noise", "choose": ["mask=noise"]}},
    "rows": {"zero": {"label": "zero"}, "misconv": {"label": "MisConv"}, "gt": {"reference": True}},
}


def spec(**changes: Any) -> TableSpec:
    """The table above with other keys."""
    return table_spec({**TABLE, **changes})


def run_options(root: Path, output: Path, seeds: tuple[int, ...] = (0,), **more: Any) -> RunOptions:
    """Smoke budget, CPU, no downloads."""
    config = compose(CONFIGS, "reproduce", ["table=demo", "budget=smoke", "trainer.accelerator=cpu"])
    infrastructure = {
        "output": str(output),
        "trainer": {**config["trainer"], "progress": False},
        "logger": config["logger"],
        "data": {"root": str(root), "download": False},
    }
    return RunOptions(budget=config["budget"], seeds=seeds, infrastructure=infrastructure, **more)


def plan(root: Path, output: Path, *specs: TableSpec, **more: Any) -> Plan:
    """The plan of some tables, by default of the one above."""
    composer = Composer(CONFIGS, "train")
    return plan_tables(specs or [spec()], composer, run_options(root, output, **more))
