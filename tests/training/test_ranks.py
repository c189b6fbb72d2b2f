"""Several processes for one run live and die together. The ranks here do nothing else, so they start at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lacuna.errors import LacunaError
from lacuna.training import ranks
from lacuna.training.ranks import RankError, start
from tests.runs.processes import all_gone, children
from tests.runs.real import interruptible

HEAD = """
import os, signal, sys, time
from pathlib import Path
from lacuna.errors import LacunaError
from lacuna.training.rank import obey_parent, report_failure

folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
obey_parent()
(folder / f"pid-{rank}").write_text(str(os.getpid()))

def work():
    for other in range(int(os.environ["WORLD_SIZE"])):
        while not (folder / f"pid-{other}").exists():
            time.sleep(0.01)
"""

TAIL = """
try:
    work()
except BaseException as error:
    report_failure(error, folder)
    sys.exit(1)
"""


def command(folder: Path, work: str) -> list[str]:
    """Ranks that do ``work``, once all of them are there."""
    body = "".join(f"    {line}\n" for line in work.strip().splitlines())
    return [sys.executable, "-c", HEAD + body + TAIL, str(folder)]


def pids(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.glob("pid-*")]


def test_every_rank_is_told_its_place(tmp_path: Path) -> None:
    work = "(folder / f'env-{rank}.json').write_text(__import__('json').dumps(dict(os.environ)))"
    start(command(tmp_path, work), 3, tmp_path, threads=2)
    found = [json.loads((tmp_path / f"env-{rank}.json").read_text()) for rank in range(3)]
    assert [(e["RANK"], e["LOCAL_RANK"]) for e in found] == [("0", "0"), ("1", "1"), ("2", "2")]
    assert {(e["WORLD_SIZE"], e["NODE_RANK"], e["OMP_NUM_THREADS"]) for e in found} == {("3", "0", "2")}


def test_what_the_parent_can_import_its_ranks_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "somewhere_else.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    start(command(tmp_path, "import somewhere_else"), 1, tmp_path)


def test_a_mistake_of_one_ends_all_and_is_one_sentence(tmp_path: Path) -> None:
    work = """
if rank == 1:
    raise LacunaError("data.root is empty.")
time.sleep(60)
"""
    began = time.monotonic()
    with pytest.raises(LacunaError) as caught:
        start(command(tmp_path, work), 3, tmp_path)
    assert str(caught.value) == "data.root is empty."
    assert "Traceback" in str(caught.value.__cause__) and "in work" in str(caught.value.__cause__)
    assert time.monotonic() - began < ranks.GRACE, "the others stopped when they were told to"
    assert all_gone(pids(tmp_path), 0)


def test_a_crash_names_the_rank_and_brings_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(RankError, match="in rank 2: ZeroDivisionError: division by zero") as caught:
        start(command(tmp_path, "1 / 0 if rank == 2 else time.sleep(60)"), 3, tmp_path)
    assert "in work" in str(caught.value.__cause__)


def test_who_was_killed_is_blamed_and_not_who_missed_it(tmp_path: Path) -> None:
    work = """
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
other = int((folder / "pid-1").read_text())
while "Z" not in Path(f"/proc/{other}/stat").read_text().split()[2]:
    time.sleep(0.001)
raise RuntimeError("Connection closed by peer")
"""
    with pytest.raises(LacunaError, match="The process of rank 1 was killed, perhaps for lack of memory"):
        start(command(tmp_path, work), 2, tmp_path)


def test_a_rank_that_ends_without_a_word_leaves_its_output(tmp_path: Path) -> None:
    work = "print('out of luck', flush=True); os._exit(3) if rank else time.sleep(60)"
    with pytest.raises(RankError, match="rank 1 ended with exit code 3") as caught:
        start(command(tmp_path, work), 2, tmp_path)
    assert "out of luck" in str(caught.value.__cause__)


def test_an_interrupted_rank_interrupts(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        start(command(tmp_path, "os.kill(os.getpid(), signal.SIGINT) if rank else None; time.sleep(60)"), 2, tmp_path)
    assert all_gone(pids(tmp_path), 0)


def test_ranks_heed_the_parents_stop_only(tmp_path: Path) -> None:
    start(command(tmp_path, "os.kill(os.getpid(), signal.SIGTERM)"), 2, tmp_path)


def test_who_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "GRACE", 0.2)
    work = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
(folder / f"deaf-{rank}").touch()
while not (folder / f"deaf-{1 - rank}").exists():
    time.sleep(0.01)
if rank:
    raise LacunaError("no.")
time.sleep(60)
"""
    with pytest.raises(LacunaError):
        start(command(tmp_path, work), 2, tmp_path)
    assert all_gone(pids(tmp_path), 0)


def parent(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A process of its own that waits for ranks which wait; and these."""
    there = command(folder, "(folder / f'here-{rank}').touch(); time.sleep(60)")
    code = f"""
from pathlib import Path
from lacuna.training.ranks import start
try:
    start({there!r}, 2, Path({str(folder)!r}))
except KeyboardInterrupt:
    print("interrupted")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    while len(list(folder.glob("here-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    assert sorted(children(process.pid)) == sorted(pids(folder))
    return process, pids(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_ranks(number: signal.Signals, tmp_path: Path) -> None:
    process, started = parent(tmp_path)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert out.strip() == "interrupted" and all_gone(started, 0)
    for rank in range(2):
        assert json.loads((tmp_path / f"rank-{rank}.json").read_text())["kind"] == "interrupted"


def test_ranks_of_a_killed_parent_end(tmp_path: Path) -> None:
    process, started = parent(tmp_path)
    process.kill()
    process.communicate()
    assert all_gone(started)


def test_works_outside_the_main_thread_and_leaves_the_signals_as_they_were(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    start(command(tmp_path, "pass"), 1, tmp_path)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            start(command(tmp_path, "pass"), 1, tmp_path)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures and signal.getsignal(signal.SIGTERM) is before


def test_a_command_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    before = children(os.getpid())
    with pytest.raises(FileNotFoundError):
        start(["/no/such/program"], 2, tmp_path)
    assert children(os.getpid()) == before
