"""Whatever goes wrong during a run, in its files or on the disk: one sentence, and finished runs intact."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lacuna.runs.folder import RunFolder
from lacuna.tasks.base import Task
from lacuna.tasks.dmfa import TrainDMFA
from tests.runs.mistakes import sentence
from tests.runs.real import ROOT, TINY, recipe, train


def interrupted(output: Path, root: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Path:
    """The folder of a run that was stopped after its first epoch: its last.ckpt."""
    whole = (*TINY, f"data.root={root}", f"output={output}", *words)
    original = Task.on_train_epoch_start

    def stop(self: Task) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as context:
        context.setattr(Task, "on_train_epoch_start", stop)
        assert train(*whole) == 130
    return output / "runs" / recipe(*whole).name / "checkpoints" / "last.ckpt"


def test_interrupted_in_the_middle(
    output: Path, digits_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = interrupted(output, digits_root, monkeypatch, "stem=zero")
    said = [line for line in capsys.readouterr().err.splitlines() if "changes nothing" not in line]
    assert said == ["interrupted: run the same command again to continue."]
    assert last.exists()
    assert '"interrupted"' in (last.parents[1] / "status.json").read_text()
    assert train(*TINY, f"data.root={digits_root}", f"output={output}", "stem=zero") == 0
    assert "resuming" in capsys.readouterr().out


def test_the_checkpoint_of_another_recipe(
    fails: Callable[..., str], output: Path, digits_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = interrupted(output, digits_root, monkeypatch, "stem=zero")
    other = interrupted(output, digits_root, monkeypatch, "stem=zero", "seed=1")
    shutil.copy(last, other)
    said = fails("stem=zero", "seed=1")
    assert "last.ckpt belongs to recipe" in said
    assert other.exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not a checkpoint", None])
def test_a_damaged_checkpoint(
    data: bytes | None, fails: Callable[..., str], output: Path, digits_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = interrupted(output, digits_root, monkeypatch, "stem=zero")
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2] if data is None else data)
    assert "last.ckpt is" in fails("stem=zero")
    last.unlink()
    assert train(*TINY, f"data.root={digits_root}", f"output={output}", "stem=zero") == 0


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("how", ["torch", "pickle", "inside"])
def test_code_in_a_checkpoint_is_not_executed(
    how: str,
    fails: Callable[..., str],
    output: Path,
    digits_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last = interrupted(output, digits_root, monkeypatch, "stem=zero")
    target = tmp_path / "executed"
    if how == "pickle":
        last.write_bytes(pickle.dumps(Bomb(target)))
    else:
        state = torch.load(last, weights_only=True)
        torch.save({**state, "lacuna": Bomb(target)} if how == "inside" else Bomb(target), last)
    assert "last.ckpt" in fails("stem=zero")
    assert not target.exists()


@pytest.mark.parametrize("name", ["last.ckpt", "metrics.jsonl", "model.safetensors", "model.json", "metrics.json"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk(
    name: str,
    call: str,
    fails: Callable[..., str],
    output: Path,
    digits_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whichever file does not fit any more: the same command goes on from there once there is space."""
    original_replace, original_open = os.replace, Path.open
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def replace(source: Any, target: Any) -> None:
        if Path(target).name == name:
            raise full
        original_replace(source, target)

    def fsync(handle: int) -> None:
        if f".{name}." in os.readlink(f"/proc/self/fd/{handle}"):
            raise full

    def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if path.name == name and mode == "a":
            raise full
        return original_open(path, mode, *args, **kwargs)

    with monkeypatch.context() as context:
        if name == "metrics.jsonl":
            context.setattr(Path, "open", opened)
        elif call == "replace":
            context.setattr(os, "replace", replace)
        else:
            context.setattr(os, "fsync", fsync)
        said = fails("stem=zero")
    assert "No space left" in said and name in said
    run = RunFolder.of(output, recipe(*TINY, f"data.root={digits_root}", "stem=zero"))
    assert not run.finished
    assert not [path for path in run.path.rglob(".*") if path.name != ".lock"]  # no temporary files are left
    assert train(*TINY, f"data.root={digits_root}", f"output={output}", "stem=zero") == 0
    assert run.finished


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [8, 30])
def test_a_disk_that_is_really_full(kilobytes: int, output: Path, digits_root: Path) -> None:
    """No file may grow beyond a few kilobytes: neither the data nor a checkpoint fits."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, kilobytes << 10))

    words = [*TINY, f"data.root={digits_root}", f"output={output}", "stem=zero"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    # coverage would want to write a file of its own
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    result = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit, env=environment)
    said = sentence(result.returncode, result.stderr)
    assert "No space left while writing" in said


def test_a_folder_one_may_not_write_to(fails: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in fails("stem=zero", f"output={tmp_path / 'file'}")
    assert "choose another folder" in fails("stem=zero", "output=/proc/lacuna")
    assert "choose another folder" in fails("stem=zero", f"output={tmp_path / ('a' * 300)}")


def test_the_loss_explodes(fails: Callable[..., str]) -> None:
    said = fails("stem=zero", "net.training.lr=1e30")
    assert "lower net.training.lr" in said


def test_a_bug(monkeypatch: pytest.MonkeyPatch, output: Path, digits_root: Path) -> None:
    """A crash that is no mistake of the user keeps its traceback, and is recorded."""

    def crash(*args: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(TrainDMFA, "loss", crash)
    with pytest.raises(RuntimeError, match="a bug"):
        train(*TINY, f"data.root={digits_root}", f"output={output}", "task=density", "seed=9")
    (run,) = (output / "runs").glob("*-dmfa-*s9-*")
    assert "a bug" in (run / "status.json").read_text()
    assert "Traceback" in (run / "log.txt").read_text()
