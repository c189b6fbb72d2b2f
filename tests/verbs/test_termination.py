"""SIGTERM ends a command with exit code 143 and a sentence; a job of ``-m`` that it ends has failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lacuna.verbs.command import CRASHED, INTERRUPTED, TERMINATED
from tests.verbs.small_configs import write_configs

SCRIPT = """
import sys
from pathlib import Path
from lacuna.config.folders import Configs
from lacuna.verbs.command import verb
sys.exit(verb("train", "job:main", Configs.of(Path(__file__).parent / "configs"))())
"""

JOB = """
import os, signal, time
from pathlib import Path
HOME = Path(__file__).parent
def main(config):
    seed = config["seed"]
    (HOME / f"began{seed}").write_text(str(os.getpid()))
    try:
        if seed == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if seed == 7:
            time.sleep(60)
    except KeyboardInterrupt:
        if seed != 7 or config["task"]["lr"] != 0.5:
            os.kill(os.getpid(), signal.SIGTERM)  # a scheduler tells every process, and a parent tells its children
        time.sleep(0.5)
        (HOME / f"tidied{seed}").touch()
        raise
"""
SENTENCE = "interrupted: run the same command again to continue."


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    write_configs(tmp_path / "configs")
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "job.py").write_text(JOB)
    return [sys.executable, str(tmp_path / "train.py")]


def begun(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def started(words: list[str]) -> subprocess.Popen[str]:
    """A command that hears Ctrl-C, also where these tests are a background job of a shell, which does not."""

    def hear() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=hear)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)])
def test_a_command_that_is_told_to_end_tidies_up_and_says_so(command, tmp_path, number, code):
    with started([*command, "seed=7", "task.lr=0.5"]) as process:
        begun(tmp_path / "began7")
        process.send_signal(number)
        assert process.wait(30) == code
        said = process.stderr.read()
    assert (tmp_path / "tidied7").exists() and said.splitlines() == [SENTENCE]


def test_a_job_that_sigterm_ends_has_failed_and_the_others_run(command, tmp_path):
    with started([*command, "-m", "seed=0,1,2"]) as process:
        said = process.communicate(timeout=120)[1]
    assert process.returncode == CRASHED
    assert "[2/3] failed with exit code 143: seed=1" in said and "1 of 3 jobs failed:" in said
    assert (tmp_path / "began2").exists() and (tmp_path / "tidied1").exists()


def test_sigterm_to_the_parent_of_jobs_ends_the_job_and_starts_no_other(command, tmp_path):
    with started([*command, "-m", "seed=7,2"]) as process:
        begun(tmp_path / "began7")
        job = int((tmp_path / "began7").read_text())
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == TERMINATED and SENTENCE in said
    assert (tmp_path / "tidied7").exists() and not (tmp_path / "began2").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(job, 0)
