"""Nothing of Ray's, and no run, outlives the process that started it: whatever ends that process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.executors.jobs import alive, pid, told, wait_for
from tests.runs.real import ROOT

pytestmark = pytest.mark.slow


DRIVER = """
import pathlib, signal, sys
from lacuna.executors.base import Resources
from lacuna.executors.on_ray import OnRay
from tests.executors.jobs import finish, follow_orders, job
output = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, signal.default_int_handler)
with OnRay(local_cpus=2, work=follow_orders) as executor:
    executor.check([Resources(1)])
    for name in ("a", "b"):
        executor.submit(job(output, name, seconds=600))
    finish(executor, 2, patience=600)
"""


@pytest.mark.parametrize("word", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_driver(word: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    output, path = tmp_path / "output", os.pathsep.join([str(ROOT), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": path, "RAY_ADDRESS": "127.0.0.1:1"}  # a cluster that nobody asked for
    with subprocess.Popen(
        [sys.executable, str(script), str(output)], env=environment, preexec_fn=_interruptible, cwd=tmp_path
    ) as driver:
        wait_for(lambda: driver.poll() is not None or (told(output / "a") and told(output / "b")), 120)
        assert driver.poll() is None
        started = _family(driver.pid)
        assert {pid(output, "a"), pid(output, "b")} <= started.keys() and len(started) > 5  # Ray's own, too
        driver.send_signal(word)
        driver.wait(60)
    saved = word != signal.SIGKILL
    # Ray's agents look for their killed master once a minute only
    soon = [each for each, command in started.items() if saved or not command.endswith("Agent")]
    wait_for(lambda: not any(alive(each) for each in soon), 30)
    assert [(output / f"{name}.interrupted").exists() for name in ("a", "b")] == [saved, saved]


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _family(root: int) -> dict[int, str]:
    """A process and all its descendants, and how they are called."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    family = {root}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return {each: Path(f"/proc/{each}/cmdline").read_text().strip("\0 ") for each in family}
