"""Folders and plans for benchmarks of the machinery: random data of the right shapes. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lacuna.config.compose import compose
from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.data.prepared import Arrays, Description, write
from lacuna.runs.budget import source_of
from lacuna.tables.options import RunOptions
from lacuna.tables.plan import Plan
from lacuna.tables.spec import TableSpec, table_spec

STARTED, ENDED = "2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00"
DATA = ("digits", "mnist", "svhn", "cifar10", "celeba32", "celeba64")


def write_random_data(root: Path) -> None:
    """Prepared data sets of a few random images each."""
    rng = np.random.default_rng(0)
    for name in DATA:
        config = compose(CONFIGS, "train", [f"data={name}"])["data"]
        source = source_of(config)
        splits = {}
        for split, n in (("train", 24), ("validation", 10), ("test", 10)):
            images = rng.integers(0, 256, (n, *source.shape), dtype=np.uint8)
            splits[split] = Arrays(images, None if source.classes is None else np.arange(n) % source.classes)
        write(
            source.folder(root), Description(source.set_name, source.classes, "random numbers", complete=False), splits
        )


def tables(name: str, composer: Composer) -> list[TableSpec]:
    """The tables of a choice of the group ``table``."""
    config = composer.base([f"table={name}"])["table"]
    if "tables" not in config:
        return [table_spec(config)]
    return [spec for inner in config["tables"] for spec in tables(inner, composer)]


def grid(rows: int, columns: int) -> TableSpec:
    """A table whose runs all differ: a classifier for each cell, a density for each column."""
    return table_spec(
        {
            "name": "bench/grid",
            "title": "Many runs",
            "metric": "test/accuracy",
            "cell": ["experiment=digits_misconv"],
            "rows": {f"r{i}": {"set": {"net.training.lr": 1e-3 + 1e-6 * i}} for i in range(rows)},
            "columns": {f"c{i}": {"set": {"density.training.lr": 1e-5 + 1e-8 * i}} for i in range(columns)},
        }
    )


def run_options(root: Path, output: Path, seeds: int = 1) -> RunOptions:
    """Options of runs at budget quick, in separate folders."""
    config: dict[str, Any] = compose(CONFIGS, "reproduce", ["budget=quick"])
    infrastructure = {
        "output": str(output),
        "trainer": config["trainer"],
        "logger": config["logger"],
        "data": {"root": str(root), "download": False},
    }
    return RunOptions(budget=config["budget"], seeds=tuple(range(seeds)), infrastructure=infrastructure)


def finish(plan: Plan) -> None:
    """Write the files of a finished run for every run of a plan."""
    for run in plan.runs.values():
        path = run.folder.path
        path.mkdir(parents=True)
        record = {
            "recipe.json": run.recipe.config,
            "environment.json": {"attempts": [{"started": STARTED, "cpu": "random numbers"}]},
            "status.json": {"state": "done", "started": STARTED, "ended": ENDED, "attempts": 1},
            "metrics.json": {"metrics": {"test/accuracy": 0.5}, "data": {"complete": False}, "budget": "quick"},
        }
        for name, value in record.items():
            (path / name).write_text(json.dumps(value), encoding="utf-8")
