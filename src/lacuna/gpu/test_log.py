"""A pytest plugin that writes down how every test ended, at once: a killed session loses nothing.

Used as ``-p lacuna.gpu.test_log``; the environment variable LACUNA_TEST_LOG names the file, one JSON line a test.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "LACUNA_TEST_LOG"
LONGEST = 300


def pytest_runtest_logreport(report: Any) -> None:
    """A test's call, or what went wrong before or behind it."""
    if report.when != "call" and report.outcome == "passed":
        return
    _write(report.nodeid, report.outcome, report.duration, _reason(report))


def pytest_collectreport(report: Any) -> None:
    """A file that cannot be imported."""
    if report.outcome == "failed":
        _write(report.nodeid, "failed", 0.0, _reason(report))


def _reason(report: Any) -> str:
    """Why it failed or was skipped, in one line."""
    if report.outcome == "passed":
        return ""
    told = report.longrepr
    if isinstance(told, tuple):
        told = told[2]
    crash = getattr(told, "reprcrash", None)
    lines = str(told if crash is None else crash.message).strip().splitlines() or ["no reason given"]
    return (lines[0] if crash is not None else lines[-1]).removeprefix("Skipped: ")[:LONGEST]


def _write(name: str, outcome: str, seconds: float, reason: str) -> None:
    place = os.environ.get(VARIABLE)
    if place and "PYTEST_XDIST_WORKER" not in os.environ:
        line = json.dumps({"test": name, "outcome": outcome, "seconds": round(seconds, 2), "reason": reason})
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
