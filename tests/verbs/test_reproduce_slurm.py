"""``reproduce.py executor=slurm`` with submitit's local executor: the table of ``executor=inline``, come what may."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lacuna.executors.slurm_queue import LocalQueue
from lacuna.executors.slurm_records import Record, Records
from lacuna.extras import DISTRIBUTION
from lacuna.runs.folder import RunFolder
from lacuna.verbs.command import verb
from tests.executors.jobs import wait_for
from tests.verbs.test_reproduce import RUNS, Numbers, command, demo_plan, interruptible, reproduce, runs, table

pytest.importorskip("submitit")

WORDS = ("executor=slurm", "executor.cluster=local", "executor.gpus=0", "executor.runs_per_gpu=1", "executor.cpus=1")
SMALL = (*WORDS, "executor.runs=3", "executor.jobs=2")


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "out"
    queue = LocalQueue()
    queue.cancel([record.id for record in submitted(tmp_path / "out")], kill=True)


@pytest.fixture(scope="module")
def numbers(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    output = tmp_path_factory.mktemp("inline") / "out"
    done = reproduce(digits_root, output)
    assert done.returncode == 0, done.stderr
    return table(output)


def submitted(output: Path) -> list[Record]:
    return Records(output).load() if output.exists() else []


def alive(output: Path) -> set[str]:
    return LocalQueue().alive([record.id for record in submitted(output)]) or set()


@pytest.mark.slow
def test_interrupted_and_gone_on_with_to_the_same_table(numbers: Numbers, digits_root: Path, output: Path) -> None:
    stopped = subprocess.Popen(
        command(digits_root, output, *SMALL), cwd=output.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=interruptible,
    )  # fmt: skip
    wait_for(lambda: len(list(output.glob("runs/*/status.json"))) >= 2 or stopped.poll() is not None)
    os.killpg(stopped.pid, signal.SIGINT)
    _, err = stopped.communicate(timeout=120)
    assert stopped.returncode == 130 and "run the same command again" in err, err
    assert not alive(output)
    states = {RunFolder(path.parent).status.get("state") for path in output.glob("runs/*/status.json")}
    assert states <= {"interrupted", "done"}
    before = runs(output)
    done = reproduce(digits_root, output, *SMALL)
    assert done.returncode == 0, done.stderr
    assert table(output) == numbers
    after = runs(output)
    assert len(after) == RUNS and {name: after[name] for name in before} == before


@pytest.mark.slow
def test_without_waiting_a_failed_run_stops_no_other(numbers: Numbers, digits_root: Path, output: Path) -> None:
    broken = next(cell.recipes[0] for cell in demo_plan(digits_root, output).tables[0].cells if cell.row.key == "knn")
    (output / "runs").mkdir(parents=True)
    (output / "runs" / broken.name).write_text("a file where the run's folder should be")
    words = (*SMALL, "executor.wait=false")
    first = reproduce(digits_root, output, *words)
    assert first.returncode == 75 and f"{RUNS} of {RUNS} runs are left" in first.stderr, first.stderr
    until = time.monotonic() + 300
    while alive(output):
        assert time.monotonic() < until
        time.sleep(0.5)
    told = reproduce(digits_root, output, *words)
    assert told.returncode == 1 and "submitted" not in told.stderr, told.stderr
    assert "1 run failed" in told.stderr and broken.name in told.stderr
    before = runs(output)
    assert len(before) == RUNS - 1
    assert {row["row"] for row in table(output) if not row["mean"]} == {"knn"}
    (output / "runs" / broken.name).unlink()
    mended = reproduce(digits_root, output, *SMALL)
    assert mended.returncode == 0 and "1 job with 1 run submitted" in mended.stderr, mended.stderr
    after = runs(output)
    assert table(output) == numbers and {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "executor=slurm: there is no sbatch on this machine"),
        (("executor.time=0",), "executor.time=0 must be a number above 0"),
        (("executor.cluster=pbs",), "executor.cluster=pbs is neither slurm nor local"),
        (("executor.setup=module",), "executor.setup must be a list"),
        (("executor.sbatch={constraint: [a, b]}",), "executor.sbatch.constraint=['a', 'b'] must be a text"),
        (("executor.wait=maybe",), "executor.wait"),
        (("executor.gpus=1", "trainer.devices=2", "trainer.accelerator=auto"), "needs as many"),
    ],
)
def test_mistakes_are_one_sentence(
    words: tuple[str, ...], sentence: str, digits_root: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    own = [f"data.root={digits_root}", f"output={tmp_path / 'out'}", "budget=smoke", "table=demo", "executor=slurm"]
    assert verb("reproduce", "lacuna.verbs.reproduce:main")([*own, "trainer.accelerator=cpu", *words]) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1 and not submitted(tmp_path / "out")


def test_without_submitit_a_sentence_says_what_to_install(
    digits_root: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    own = [f"data.root={digits_root}", f"output={tmp_path / 'out'}", "budget=smoke", "table=demo", *WORDS]
    assert verb("reproduce", "lacuna.verbs.reproduce:main")([*own, "trainer.accelerator=cpu"]) == 2
    assert "executor=slurm needs the package submitit" in (err := capsys.readouterr().err)
    assert f"pip install '{DISTRIBUTION}[slurm]'" in err and err.count("\n") == 1


def test_a_plan_needs_no_cluster(digits_root: Path, tmp_path: Path, capsys) -> None:
    own = [f"data.root={digits_root}", f"output={tmp_path / 'out'}", "budget=smoke", "table=demo", "executor=slurm"]
    words = ["executor.sbatch={constraint: a100, mail-type: FAIL}", "executor.setup=['module load cuda']"]
    assert verb("reproduce", "lacuna.verbs.reproduce:main")([*own, *words, "plan=true"]) == 0
    assert f"{RUNS} runs" in capsys.readouterr().out
