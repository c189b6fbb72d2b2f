"""A run inside a SLURM job is a run like any other, and SLURM's warning stops it as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lacuna.executors.signals import obey_parent_only, stop_on_signals
from lacuna.runs.folder import RunFolder
from lacuna.training.interrupts import Interrupts, leave_to_parent
from tests.executors.jobs import wait_for
from tests.runs.real import ROOT, TINY, contents, interruptible
from tests.runs.test_outside_starters import BATCH

WORDS = (*TINY, "experiment=digits_zero", "net.training.epochs=40", "trainer.checkpoint_seconds=0")


def command(digits_root: Path, output: Path) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *WORDS, f"data.root={digits_root}", f"output={output}"]


@pytest.mark.slow
def test_a_warning_of_slurm_stops_a_run_that_the_same_command_resumes(digits_root: Path, tmp_path: Path) -> None:
    slurm = {**os.environ, **BATCH, "SLURM_NTASKS_PER_NODE": "2"}
    # left by another project: Lightning would load it
    (tmp_path / "hpc_ckpt_3.ckpt").write_bytes(b"not a checkpoint")
    stopped = subprocess.Popen(
        command(digits_root, tmp_path / "slurm"), env=slurm, cwd=tmp_path, text=True, stderr=subprocess.PIPE,
        preexec_fn=interruptible,
    )  # fmt: skip
    wait_for(lambda: list((tmp_path / "slurm").glob("runs/*/checkpoints/last.ckpt")) or stopped.poll() is not None)
    stopped.send_signal(signal.SIGUSR1)
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 130 and "interrupted: run the same command again to continue." in said
    [run] = (tmp_path / "slurm" / "runs").iterdir()
    assert RunFolder(run).status["state"] == "interrupted" and RunFolder(run).resumable
    for output, environment in (("slurm", slurm), ("plain", dict(os.environ))):
        done = subprocess.run(
            command(digits_root, tmp_path / output), env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert contents(run) == contents(tmp_path / "plain" / "runs" / run.name)
    assert [path.name for path in tmp_path.rglob("hpc_ckpt*")] == ["hpc_ckpt_3.ckpt"]


@pytest.fixture
def handlers() -> object:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_worker_leaves_to_its_parent_what_slurm_sends_to_all(
    handlers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    obey_parent_only()
    interrupts = Interrupts()
    interrupts.install()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
        assert not interrupts.requested
    os.kill(os.getpid(), signal.SIGINT)
    assert interrupts.requested
    interrupts.remove()
    assert signal.getsignal(signal.SIGTERM) is leave_to_parent


@pytest.mark.parametrize(("slurm", "heard"), [(True, True), (False, False)])
def test_sigusr1_belongs_to_slurm_only(
    slurm: bool, heard: bool, handlers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if slurm:
        monkeypatch.setenv("SLURM_JOB_ID", "7")
    told: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: told.append(number))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    interrupts = Interrupts()
    interrupts.install()
    os.kill(os.getpid(), signal.SIGUSR1)
    interrupts.remove()
    assert interrupts.requested == heard and bool(told) != heard


def test_submitit_keeps_the_signals_that_it_handles(handlers: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """It requeues the job at its own signal, and lets SIGTERM pass until that comes."""
    environment = pytest.importorskip("submitit.core.job_environment")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(environment.JobEnvironment, "USR_SIG", "USR1")
    from submitit.local.local import LocalJobEnvironment

    LocalJobEnvironment()._handle_signals(None, None)
    theirs = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    stop_on_signals()
    interrupts = Interrupts()
    interrupts.install()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == theirs
    os.kill(os.getpid(), signal.SIGTERM)
    assert not interrupts.requested
    interrupts.remove()
