"""Plans that compose every configuration once, and run directories by hand: what a training would leave behind."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.tables.options import RunOptions
from lacuna.tables.plan import Plan, plan_tables
from lacuna.tables.spec import TableSpec
from tests.tables.planning import run_options, spec

ATTEMPT: dict[str, Any] = {
    "commit": "abc123", "cpu": "A CPU", "threads": 2, "gpus": [], "started": "2026-11-20T10:00:00+00:00",
    "resumed": False, "host": "here",
}  # fmt: skip
DONE: dict[str, Any] = {
    "state": "done", "attempts": 1, "started": "2026-11-20T10:00:00+00:00", "ended": "2026-11-20T10:01:40+00:00",
}  # fmt: skip


@functools.cache
def _composer() -> Composer:
    return Composer(CONFIGS, "train")


@functools.cache
def _run_options(root: Path) -> RunOptions:
    return run_options(root, root)


def plan(root: Path, output: Path, *specs: TableSpec, seeds: tuple[int, ...] = (0,), **more: Any) -> Plan:
    """As :func:`tests.tables.planning.plan`."""
    options = _run_options(root)
    here = {**options.infrastructure, "output": str(output)}
    return plan_tables(
        specs or [spec()], _composer(), dataclasses.replace(options, seeds=seeds, infrastructure=here, **more)
    )


def begin(recipe: Recipe, output: Path, status: Mapping[str, Any] | None = None) -> Path:
    """A run that has not ended, or ended as ``status`` says."""
    path = RunFolder.of(output, recipe).path
    files.write_json(path / "recipe.json", recipe.config)
    files.write_json(path / "environment.json", {"attempts": [ATTEMPT]})
    files.write_json(path / "status.json", dict(status or {"state": "running", "attempts": 1}))
    return path


def finish(
    recipe: Recipe,
    output: Path,
    metrics: Mapping[str, float],
    *,
    attempts: Sequence[Mapping[str, Any]] = (ATTEMPT,),
    status: Mapping[str, Any] = DONE,
    history: Sequence[Mapping[str, float]] = (),
    **data: Any,
) -> Path:
    """A finished run with these metrics; ``data`` changes what is recorded of the images (by default all 500)."""
    path = begin(recipe, output, status)
    files.write_json(path / "environment.json", {"attempts": list(attempts)})
    if history:
        files.write_text(path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
    record = {
        "name": recipe.config["data"]["name"],
        "fingerprint": recipe.config["data"]["fingerprint"],
        "complete": True,
        "lossless": True,
        "note": "",
        "images": {"train": 1197, "test": 500},
        "stored": {"train": 1297, "test": 500},
    }
    files.write_json(
        path / "metrics.json",
        {"metrics": dict(metrics), "data": {**record, **data}, "budget": recipe.config["budget"]},
    )
    return path
