"""Part 1: run every test marked ``gpu`` in a separate process with a time limit."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lacuna.gpu.child_environment import ROOT
from lacuna.gpu.deadline import Clock
from lacuna.gpu.pytest_log import VARIABLE
from lacuna.gpu.results import DONE, FAILED, RUNNING, STOPPED

MARK = re.compile(r"pytest\.mark\.gpu\b")
GRACE = 10.0
TICK = 2.0
PROCESSES = 4
"""Number of processes for the tests if pytest-xdist is installed."""

Write = Callable[[str, str, dict[str, Any]], None]
"""(state, line, content): writes the result file."""


def files_with_gpu_tests(tests: Path) -> list[Path]:
    """The test files with a GPU test. Only these are collected: others may import packages that a GPU machine lacks."""
    return [path for path in sorted(tests.rglob("test_*.py")) if MARK.search(path.read_text(encoding="utf-8"))]


def run_tests(clock: Clock, work: Path, write: Write) -> bool:
    """Run the tests until they are done or the time of the part is over; whether none failed."""
    if importlib.util.find_spec("pytest") is None:
        write(FAILED, "pytest is not installed here, so no test was run.", {"tests": []})
        return False
    log = work / "tests.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    write(RUNNING, "the tests have started", {"tests": []})
    with (work / "tests.log").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            _command(work), cwd=ROOT, env={**os.environ, VARIABLE: str(log)}, stdout=output, stderr=subprocess.STDOUT
        )
        reported, code = 0, None
        try:
            while code is None and clock.part_left > GRACE / 2:
                code = _wait(process, TICK)
                tests = _read(log)
                if len(tests) > reported:
                    reported = len(tests)
                    write(RUNNING, summary(tests), {"tests": tests})
                    clock.log(f"tests: {summary(tests)}")
        finally:
            _stop(process)
    tests = _read(log)
    # 5: no test was collected; the list of tests is empty then
    crashed = code not in (None, 0, 1, 5)
    state = STOPPED if code is None else FAILED if crashed else DONE
    line = summary(tests) + (f"; pytest ended with exit code {code}" if crashed else "")
    more = {"last_output": _tail(work / "tests.log")} if crashed or code is None else {}
    write(state, line, {"tests": tests, **more})
    return not crashed and not any(test["outcome"] == "failed" for test in tests)


def summary(tests: list[dict[str, Any]]) -> str:
    """``12 passed, 1 failed (tests/x.py::y: why)``."""
    counts = Counter(test["outcome"] for test in tests)
    parts = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if counts[outcome])
    failures = [f"{test['test']}: {test['reason']}" for test in tests if test["outcome"] == "failed"]
    return (parts or "no test") + (f" ({'; '.join(failures)})" if failures else "")


def _command(work: Path) -> list[str]:
    tests = [str(path.relative_to(ROOT)) for path in files_with_gpu_tests(ROOT / "tests")]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "-p",
        "lacuna.gpu.pytest_log",
    ]
    if os.environ.get("CUDA_VISIBLE_DEVICES") != "" and importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(PROCESSES)]
    return [*command, f"--basetemp={work / 'pytest'}", *tests]


def _wait(process: subprocess.Popen[Any], seconds: float) -> int | None:
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None


def _stop(process: subprocess.Popen[Any]) -> None:
    """Let pytest end its session and its workers; then kill it if needed."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        if _wait(process, GRACE) is None:
            process.kill()
            process.wait()


def _read(log: Path) -> list[dict[str, Any]]:
    found = []
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # an incomplete line of a killed process
            continue
    return found


def _tail(log: Path, lines: int = 15) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
