"""What ``-m`` makes of the exit codes of its jobs, and how a verb ends."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from lacuna.verbs import command, jobs
from lacuna.verbs.command import CRASHED, DONE, INTERRUPTED, MISTAKE, MORE, verb

JOBS = ["-m", "experiment=digits_zero", "seed=0,1,2"]


def run(codes: list[int], monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[list[str]]]:
    """``train.py`` with three jobs that end with these codes, and the commands of the jobs."""
    commands: list[list[str]] = []

    def spawn(words: list[str]) -> int:
        commands.append(words)
        return codes[len(commands) - 1]

    monkeypatch.setattr(jobs, "spawn", spawn)
    monkeypatch.setattr(sys, "argv", ["train.py", *JOBS])
    return verb("train", "x:y")(JOBS), commands


def test_every_job_is_tried(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, commands = run([DONE, DONE, DONE], monkeypatch)
    assert code == DONE
    assert [words[2:] for words in commands] == [["experiment=digits_zero", f"seed={seed}"] for seed in range(3)]
    assert all(words[:2] == [sys.executable, "train.py"] for words in commands)
    assert "[3/3] experiment=digits_zero seed=2" in capsys.readouterr().err


def test_the_jobs_of_one_command_are_one_group_on_dashboards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same group when the command is given again, also with another output folder; another one for other values."""
    monkeypatch.setitem(globals(), "JOBS", [*JOBS, "logger=wandb"])
    groups = []
    for more in ([], ["output=elsewhere"], ["net.training.epochs=3"]):
        monkeypatch.setitem(globals(), "JOBS", [*JOBS[:4], *more])
        (group,) = {words[-1] for words in run([DONE, DONE, DONE], monkeypatch)[1]}
        groups.append(group)
    assert groups[0].startswith("logger.group='digits_zero-")
    assert groups[0] == groups[1] != groups[2]
    monkeypatch.setitem(globals(), "JOBS", [*JOBS[:4], "logger.group=mine"])
    assert {words[-1] for words in run([DONE, DONE, DONE], monkeypatch)[1]} == {"logger.group=mine"}


def test_failed_jobs_are_named_at_the_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, commands = run([DONE, MISTAKE, CRASHED], monkeypatch)
    assert code == CRASHED and len(commands) == 3
    last = capsys.readouterr().err.splitlines()[-3:]
    assert last == ["2 of 3 jobs failed:", "  experiment=digits_zero seed=1", "  experiment=digits_zero seed=2"]


def test_more_to_do_counts_for_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([DONE, MORE, DONE], monkeypatch)[0] == MORE
    assert "1 of 3 jobs have more to do" in capsys.readouterr().err


def test_an_interrupted_job_ends_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, commands = run([INTERRUPTED, DONE, DONE], monkeypatch)
    assert code == INTERRUPTED and len(commands) == 1
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize(("context", "code"), [(KeyboardInterrupt, INTERRUPTED), (None, None)])
def test_a_systemexit_out_of_an_interrupt_is_one(
    context: type[BaseException] | None, code: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning turns Ctrl-C into a SystemExit."""

    def fail(*_: object) -> Callable[[], int]:
        try:
            if context is not None:
                raise context
        except BaseException:
            sys.exit(1)
        sys.exit(1)

    monkeypatch.setattr(command, "_run", fail)
    if code is None:
        with pytest.raises(SystemExit):
            verb("train", "x:y")([])
    else:
        assert verb("train", "x:y")([]) == code
