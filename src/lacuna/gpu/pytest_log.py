"""A pytest plugin that logs the outcome of every test at once, so that a killed session loses nothing.

Used as ``-p lacuna.gpu.pytest_log``; the environment variable LACUNA_TEST_LOG names the file, one JSON line a test.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "LACUNA_TEST_LOG"
LONGEST = 300
"""Characters of a reason."""


def pytest_runtest_logreport(report: Any) -> None:
    """Log a test's outcome, or an error in its setup or teardown."""
    if report.when != "call" and report.outcome == "passed":
        return
    _write(report.nodeid, report.outcome, report.duration, _reason(report))


def pytest_collectreport(report: Any) -> None:
    """Log a test file that cannot be imported."""
    if report.outcome == "failed":
        _write(report.nodeid, "failed", 0.0, _reason(report))


def _reason(report: Any) -> str:
    """Why a test failed or was skipped, in one line."""
    if report.outcome == "passed":
        return ""
    text = report.longrepr
    if isinstance(text, tuple):
        text = text[2]
    crash = getattr(text, "reprcrash", None)
    lines = str(text if crash is None else crash.message).strip().splitlines() or ["unknown reason"]
    return (lines[0] if crash is not None else lines[-1]).removeprefix("Skipped: ")[:LONGEST]


def _write(name: str, outcome: str, seconds: float, reason: str) -> None:
    place = os.environ.get(VARIABLE)
    if place and "PYTEST_XDIST_WORKER" not in os.environ:
        line = json.dumps({"test": name, "outcome": outcome, "seconds": round(seconds, 2), "reason": reason})
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
