"""The command line as a process: nothing heavy is imported before a job starts, and the jobs of a multirun."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lacuna.verbs.command import CRASHED, DONE, MISTAKE, TERMINATED
from tests.verbs.small_configs import write_configs


def test_cfg_of_a_sweep_runs_nothing(script: Path) -> None:
    result = start(script, "-m", "--cfg", "seed=0,2")
    assert result.returncode == MISTAKE
    assert "-m and --cfg exclude each other" in result.stderr
    assert not (script.parent / "done.txt").exists()


SCRIPT = """
import json, sys
from pathlib import Path
from lacuna.config.folders import Configs
from lacuna.verbs.command import verb
main = verb("train", "job:main", Configs.of(Path(__file__).parent / "configs"))
if __name__ != "__main__":
    raise SystemExit  # a launcher's worker reads this file again
code = main()
print("heavy:", sorted({"torch", "pytorch_lightning", "wandb", "numpy"} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""

JOB = """
import json, os, signal, time
from pathlib import Path
from lacuna.errors import LacunaError
def main(config):
    if config["seed"] == 1:
        raise LacunaError("seed 1 is unlucky.")
    if config["seed"] == 3:
        raise RuntimeError("boom")
    if config["seed"] == 9:
        (Path(__file__).parent / "waits.txt").write_text("")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        time.sleep(60)
    with open(Path(__file__).parent / "done.txt", "a") as file:
        file.write(json.dumps([config["seed"], config["task"]["lr"], os.getpid()]) + "\\n")
"""


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    return write_configs(tmp_path / "configs")


@pytest.fixture
def script(configs: Path) -> Path:
    path = configs.parent / "train.py"
    path.write_text(SCRIPT)
    (configs.parent / "job.py").write_text(JOB)
    return path


def start(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, check=False, cwd=script.parent
    )


@pytest.mark.parametrize("words", [["--help"], ["--cfg"], ["sed=1"], ["experiment=digits_misconv"]])
def test_nothing_heavy_is_imported_and_nothing_is_written(script: Path, words: list[str]) -> None:
    before = {path for path in script.parent.rglob("*") if "__pycache__" not in path.parts}
    result = start(script, *words)
    assert "heavy: []" in result.stderr
    assert "Traceback" not in result.stderr
    after = {path for path in script.parent.rglob("*") if "__pycache__" not in path.parts}
    assert {path.name for path in after - before} <= {"done.txt"}


def test_multirun_runs_every_job_in_a_process_of_its_own(script: Path) -> None:
    result = start(script, "-m", "seed=0,1,2,3", "task.lr=0.5,1.0")
    assert result.returncode == CRASHED
    done = [json.loads(line) for line in (script.parent / "done.txt").read_text().splitlines()]
    assert [row[:2] for row in done] == [[0, 0.5], [0, 1.0], [2, 0.5], [2, 1.0]]
    assert len({row[2] for row in done}) == 4
    assert result.stderr.count("error: seed 1 is unlucky.") == 2
    assert "RuntimeError: boom" in result.stderr
    assert "[3/8] failed with exit code 2: seed=1 task.lr=0.5" in result.stderr
    assert "4 of 8 jobs failed:" in result.stderr
    assert result.stderr.rstrip().splitlines()[-2].strip() == "seed=3 task.lr=1.0"


def test_multirun_checks_every_job_before_the_first(script: Path) -> None:
    result = start(script, "-m", "seed=0,abc")
    assert result.returncode == MISTAKE
    assert "seed must be a whole number" in result.stderr
    assert not (script.parent / "done.txt").exists()
    assert start(script, "-m", "seed=0,2").returncode == DONE


def test_a_scheduler_stops_the_jobs_with_their_parent(script: Path) -> None:
    """SIGTERM goes to the parent alone; the job saves its state first, and no other job starts."""
    command = [sys.executable, str(script), "-m", "seed=9,0"]
    with subprocess.Popen(command, cwd=script.parent, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not (script.parent / "waits.txt").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == TERMINATED
    assert err.count("interrupted: run the same command again to continue.") == 2  # the job's and the parent's
    assert not (script.parent / "done.txt").exists()
