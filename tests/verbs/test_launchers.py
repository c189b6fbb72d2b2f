"""The jobs of ``-m``: by default a process each, with Hydra's folders where they are asked for; or by a plugin."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lacuna.verbs.command import CRASHED, DONE
from tests.verbs.small_configs import write_configs

SCRIPT = """
import sys
from pathlib import Path
from lacuna.config.folders import Configs
from lacuna.verbs.command import verb
if __name__ == "__main__":
    sys.exit(verb("train", "job:main", Configs.of(Path(__file__).parent / "configs"))())
"""

JOB = """
import json, os
from pathlib import Path
from lacuna.errors import LacunaError
def main(config, words):
    if config["seed"] == 1:
        raise LacunaError("seed 1 is unlucky.")
    if config["seed"] == 3:
        raise RuntimeError("boom")
    row = [config["seed"], config["task"]["lr"], config["logger"]["group"], os.getpid(), os.getcwd()]
    (Path(__file__).parent / f"done-{config['seed']}.json").write_text(json.dumps(row))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    configs = write_configs(tmp_path / "configs")
    train = (configs / "train.yaml").read_text()
    (configs / "train.yaml").write_text(train + "logger: {group: null}\noutput: outputs\n")
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    (tmp_path / "job.py").write_text(JOB)
    return path


def start(script: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(script.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    command = [sys.executable, str(script), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=script.parent, env=environment, timeout=300)


def rows(script: Path) -> list[list]:
    return [json.loads(path.read_text()) for path in sorted(script.parent.glob("done-*.json"))]


def test_a_process_a_job_with_hydras_folders(script: Path) -> None:
    words = ["seed=0,1,2", "task.lr=0.5", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=s_${seed}_${hydra.job.num}"]
    result = start(script, "-m", *words, "hydra.job.chdir=true")
    assert result.returncode == CRASHED, result.stderr
    found = rows(script)
    assert [row[:2] for row in found] == [[0, 0.5], [2, 0.5]] and len({row[3] for row in found}) == 2
    assert len({row[2] for row in found}) == 1 and found[0][2].startswith("train-")
    folders = [script.parent / "sweep" / f"s_{seed}_{seed}" for seed in range(3)]
    assert [row[4] for row in found] == [str(folders[0]), str(folders[2])]
    assert yaml.safe_load((folders[2] / ".hydra" / "config.yaml").read_text())["seed"] == 2
    assert (script.parent / "sweep" / "multirun.yaml").exists()
    assert "[2/3] failed with exit code 2: seed=1 task.lr=0.5" in result.stderr
    assert not (script.parent / "multirun").exists() and not (script.parent / "outputs").exists()
    assert start(script, "-m", "seed=0,2", "hydra.sweep.subdir=s${seed}").returncode == DONE
    (made,) = (script.parent / "outputs" / "multirun").iterdir()
    assert sorted(path.name for path in made.iterdir()) == ["multirun.yaml", "s0", "s2"]


@pytest.mark.parametrize(
    ("launcher", "more"),
    [
        ("joblib", ["hydra.launcher.n_jobs=2"]),
        ("submitit_local", ["hydra.launcher.timeout_min=5"]),
        pytest.param("ray", ["+hydra.launcher.ray.init.num_cpus=2"], marks=pytest.mark.slow),
    ],
)
def test_a_launcher_of_hydra_does_the_jobs(script: Path, launcher: str, more: list[str]) -> None:
    """Every job is tried; what failed is named; the exit code tells."""
    result = start(script, "-m", f"hydra/launcher={launcher}", *more, "seed=0,1,2,3", "task.lr=0.5")
    assert result.returncode == CRASHED, result.stderr
    found = rows(script)
    assert [row[:2] for row in found] == [[0, 0.5], [2, 0.5]]
    assert len({row[2] for row in found}) == 1 and found[0][2].startswith("train-")
    assert str(os.getpid()) not in {str(row[3]) for row in found}
    assert "2 of 4 jobs failed:" in result.stderr
    assert [line.split()[0] for line in result.stderr.splitlines() if line.startswith("  seed=")] == [
        "seed=1",
        "seed=3",
    ]
    assert start(script, "-m", f"hydra/launcher={launcher}", *more, "seed=0,2").returncode == DONE


FAKES = {
    # runs the batch script in the background, as a node would, with the variables that SLURM sets
    "sbatch": """#!/bin/bash
script="${@: -1}"; cp "$script" "$FAKE_SLURM/script.sh"; echo "$@" > "$FAKE_SLURM/arguments"
tasks=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script"); tasks=${tasks:-0}
for task in $(seq 0 "$tasks"); do
  (SLURM_JOB_ID=7 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 \\
    SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=n SLURM_NTASKS_PER_NODE=1 \\
    bash "$FAKE_SLURM/script.sh" > "$FAKE_SLURM/out-$task" 2>&1; touch "$FAKE_SLURM/ended-$task") > /dev/null 2>&1 &
done
echo "Submitted batch job 7"
""",
    "srun": """#!/bin/bash
while [[ "$1" == -* ]]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
""",
    "sacct": """#!/bin/bash
echo "JobID|State|NodeList"
for task in 0 1; do
  [ -e "$FAKE_SLURM/ended-$task" ] && state=COMPLETED || state=RUNNING; echo "7_$task|$state|n"
done
""",
    "scancel": "#!/bin/bash\n",
}


def test_slurm_gets_what_the_command_line_says(script: Path) -> None:
    """submitit writes the batch script and waits; sbatch and the rest are replaced by small scripts."""
    tools = script.parent / "tools"
    tools.mkdir()
    for name, text in FAKES.items():
        (tools / name).write_text(text)
        (tools / name).chmod((tools / name).stat().st_mode | stat.S_IXUSR)
    variables = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "FAKE_SLURM": str(tools)}
    words = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1"]
    result = start(script, "-m", *words, "seed=0,2", **variables)
    batch = (tools / "script.sh").read_text()
    assert "#SBATCH --partition=gpu" in batch and "#SBATCH --gpus-per-node=1" in batch and "--array=0-1" in batch
    assert result.returncode == DONE, result.stderr
    assert [row[0] for row in rows(script)] == [0, 2]
