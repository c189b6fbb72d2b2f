"""A command that torchrun or srun has started several times is refused by every copy; within a batch script it runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lacuna.errors import LacunaError
from lacuna.runs.outside_starters import refuse_copies
from tests.runs.real import ROOT

BATCH = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "job", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}
TORCHRUN = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "none"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "4"},  # some machines are set up so
        BATCH,
        {**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # srun -n 1, srun --pty, the shell of salloc
        {"PMI_SIZE": "1", "PMI_RANK": "0"},
    ],
)
def test_once_is_fine(environment: dict[str, str]) -> None:
    refuse_copies(environment)


@pytest.mark.parametrize(
    ("environment", "name", "fix"),
    [
        (STEP, "srun has started 2 copies", "srun -n 1 python"),
        (TORCHRUN, "torchrun has started 2 copies", "trainer.devices=2"),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "0"}, "mpirun has started 3", "trainer.devices=3"),
    ],
)
def test_copies_are_refused_in_a_sentence(environment: dict[str, str], name: str, fix: str) -> None:
    with pytest.raises(LacunaError, match=name) as refused:
        refuse_copies(environment)
    assert fix in str(refused.value)


@pytest.mark.parametrize("verb", ["train", "reproduce", "sweep", "evaluate", "impute"])
def test_every_verb_refuses_before_torch(verb: str) -> None:
    code = (
        f"import sys, runpy; sys.argv = ['{verb}.py', 'seed=0']\n"
        f"try: runpy.run_path('{ROOT / (verb + '.py')}', run_name='__main__')\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **STEP}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert done.stderr.startswith("error: srun has started 2 copies") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_torchrun_itself_is_refused() -> None:
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*starter, str(ROOT / "train.py"), "experiment=digits_zero"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0 and "error: torchrun has started 2 copies of this command" in done.stderr
    assert "exitcode  : 2" in done.stderr
