"""SLURM's commands in miniature: jobs are processes of this machine, with dependencies, cancelling and requeueing.

Run as a script, it does what the command of its first argument does; the folder of the cluster is ``FAKE_SLURM``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
SLOW_DOWN = 0.02


def install(folder: Path) -> dict[str, str]:
    """Write the commands into ``folder/bin``; the environment in which they are the first to be found."""
    (folder / "bin").mkdir(parents=True)
    (folder / "jobs").mkdir()
    for command in COMMANDS:
        path = folder / "bin" / command
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} {command} "$@"\n')
        path.chmod(0o755)
    return {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "FAKE_SLURM": str(folder)}


def script(folder: Path, id: str) -> str:
    """What was submitted as a job."""
    return (folder / "jobs" / id / "script").read_text()


def parameters(folder: Path, id: str) -> dict[str, str]:
    """The parameters of a job."""
    lines = re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", script(folder, id), re.MULTILINE)
    return {key: value.strip("'") for key, value in lines}


def ids(folder: Path) -> list[str]:
    """The jobs, in the order of submission."""
    return sorted((path.name for path in (folder / "jobs").iterdir()), key=int)


def sbatch(jobs: Path, *words: str) -> int:
    text = Path(words[-1]).read_text()
    if "--partition=nowhere" in text:
        print("sbatch: error: invalid partition specified: nowhere", file=sys.stderr)
        return 1
    id = str(100 + len(list(jobs.iterdir())))
    (jobs / id).mkdir()
    (jobs / id / "script").write_text(text)
    environment = {**os.environ, "SLURM_JOB_ID": id, "SLURM_JOB_NAME": "lacuna", "SLURM_NTASKS": "1"}
    environment |= {"SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NUM_NODES": "1"}
    nothing = subprocess.DEVNULL
    command = [sys.executable, __file__, "controller", id]
    subprocess.Popen(command, env=environment, start_new_session=True, stdin=nothing, stdout=nothing, stderr=nothing)
    print(f"Submitted batch job {id}")
    return 0


def controller(jobs: Path, id: str) -> int:
    """Wait for what the job depends on, and run it, again after each ``scontrol requeue``."""
    me = jobs / id
    for other in re.findall(r"\d+", parameters(jobs.parent, id).get("dependency", "")):
        while not (jobs / other / "ended").exists() and not (me / "cancelled").exists():
            time.sleep(SLOW_DOWN)
    while not (me / "cancelled").exists():
        (me / "requeued").unlink(missing_ok=True)
        code = subprocess.run(["bash", str(me / "script")]).returncode
        with (me / "codes").open("a") as file:
            print(code, file=file)
        if not (me / "requeued").exists():
            break
    (me / "ended").touch()
    return 0


def srun(jobs: Path, *words: str) -> int:
    id, rest = os.environ["SLURM_JOB_ID"], list(words)
    streams = {}
    while rest[0].startswith("--"):
        option = rest.pop(0)
        if option in ("--output", "--error"):
            streams[option] = rest.pop(0).replace("%j", id).replace("%t", "0")
    os.environ |= {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    for option, number in (("--output", 1), ("--error", 2)):
        os.dup2(os.open(streams[option], os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    (jobs / id / "pid").write_text(str(os.getpid()))
    os.execvp(rest[0], rest)


def squeue(jobs: Path, *words: str) -> int:
    assert "--noheader" in words and "--format=%i" in words
    print("\n".join(path.name for path in jobs.iterdir() if not (path / "ended").exists()))
    return 0


def scancel(jobs: Path, *words: str) -> int:
    number = signal.SIGKILL if "--signal=KILL" in words else signal.SIGTERM
    for id in (word for word in words if word.isdigit()):
        (jobs / id / "cancelled").touch()
        send(jobs.parent, id, number)
    return 0


def scontrol(jobs: Path, *words: str) -> int:
    me = jobs / words[-1]
    if words[0] == "requeue":
        (me / "requeued").touch()
    else:
        state = "CANCELLED" if (me / "cancelled").exists() else "NODE_FAIL"
        print(f"JobId={me.name} JobName=lacuna JobState={state} Reason=None")
    return 0


def send(folder: Path, id: str, number: int) -> None:
    """Send a signal to what a job runs, if it runs."""
    path = folder / "jobs" / id / "pid"
    if path.exists() and not (path.parent / "ended").exists():
        os.kill(int(path.read_text()), number)


def end_all(folder: Path) -> None:
    """Cancel everything."""
    for id in ids(folder):
        subprocess.run(["scancel", "--signal=KILL", id])
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](Path(os.environ["FAKE_SLURM"]) / "jobs", *sys.argv[2:]))
