"""Whatever a user gets wrong, or the machine: one sentence, no traceback, a non-zero exit, and finished runs intact."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lacuna.runs.folder import RunFolder
from lacuna.tasks.base import Task
from lacuna.tasks.dmfa import TrainDMFA
from tests.runs.real import ROOT, TINY, contents, recipe, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, digits_root: Path) -> Path:
    """An output folder with a finished experiment; copied, never changed."""
    output = tmp_path_factory.mktemp("finished")
    assert train(*TINY, "stem=mfa_mean", f"data.root={digits_root}", f"output={output}") == 0
    return output


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it; whatever a test does, the finished runs must stay as they are."""
    shutil.copytree(finished / "runs", tmp_path / "outputs" / "runs")
    yield tmp_path / "outputs"
    for run in (finished / "runs").iterdir():
        assert contents(tmp_path / "outputs" / "runs" / run.name) == contents(run)


@pytest.fixture
def fails(output: Path, digits_root: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run ``train.py words``, which must fail with one sentence: that sentence."""

    def run(*words: str, code: int = 2) -> str:
        capsys.readouterr()
        found = train(*TINY, f"data.root={digits_root}", f"output={output}", *words)
        return sentence(found, capsys.readouterr().err, code)

    return run


def sentence(found: int, err: str, code: int = 2) -> str:
    assert found == code, err
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, err
    assert err.splitlines()[-1] == errors[0]
    return errors[0]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("experiment=digits_misconf", "did you mean 'digits_misconv'"),
        ("sed=1", "did you mean 'seed'"),
        ("density.training.learning_rate=1", "the keys of density.training are"),
        ("net.training.epochs=many", "must be a whole number"),
        ("data=imagenet", "The choices are"),
        ("task.name=paint", "paint"),
        ("data.train_images=some", "data.train_images"),
        ("data.train_images=0", "data.train_images=0"),
        ("data.validation=5000", "data.validation=5000 must be smaller"),
    ],
)
def test_a_wrong_word(fails: Callable[..., str], word: str, expected: str) -> None:
    assert expected in fails(word)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mask=bernoulli", "mask.rate=1.2"], "mask.rate=1.2 must lie in [0, 1)"),
        (["mask=square", "mask.fraction=-1"], "fraction"),
        (["mask=trapezoid", "mask.area=2"], "area"),
        (["mask.type=masks.Circle"], "mask.type=masks.Circle"),
        (["mask.type=os.system"], "mask.type=os.system"),
        (["stem.formula=guess"], "formula"),
        (["net.training.batch_size=0"], "batch_size=0"),
        (["density.components=0"], "components"),
        (["density.factors=-1"], "factors"),
        (["stem=knn", "stem.imputer.k=0"], "k=0"),
        (["precision=64-lies"], "precision"),
        (["net.training.epochs=0"], "net.training.epochs=0 must be at least 1"),
        (["net.training.epochs=null"], "net.training.epochs=None must be at least 1"),
        (["net.training.lr=nan"], "net.training.lr=nan more than 0"),
        (["seed=null"], "seed=None must be a whole number"),
        (["mask.seed=null"], "mask.seed=None must be a whole number"),
        (["density.training.lr=0"], "density.training.lr=0 more than 0"),
        (["net.training.lr_milestones=[3]"], "net.training.lr_milestones needs"),
        (["stem.kernel_size=0"], "stem.*"),
        (["stem=zero", "stem.kernel_size=9", "stem.padding=0"], "(1, 8, 8)"),
        (["trainer.threads=-1"], "trainer.threads=-1"),
        (["trainer.eval_batch_size=0"], "trainer.eval_batch_size=0"),
        (["mask=null"], "mask=null: choose one of"),
        (["stem=null"], "stem=null: choose one of"),
        (["density.net.filters=[]"], "density.net.filters=[]"),
        (["density.net.kernels=[3,4,3,3]"], "density.net.kernels[1]=4"),
        (["density.net.kernels=[3]"], "must be of the same length"),
        (["net.hidden=0"], "net.hidden=0"),
        (["net.stages=[]"], "net.stages=[]"),
        (["net.stages=[[32]]"], "net.stages[0]=[32]"),
        (["trainer.accelerator=abacus"], "trainer.*"),
    ],
)
def test_a_wrong_value(fails: Callable[..., str], words: list[str], expected: str) -> None:
    assert expected in fails(*words)


def test_damaged_prepared_data(fails: Callable[..., str], digits_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(digits_root, root)
    path = root / "prepared" / "digits" / "train_images.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    said = fails(f"data.root={root}")
    assert "train_images.npy is damaged" in said and "python scripts/prepare.py digits" in said
    path.unlink()
    assert "train_images.npy is missing" in fails(f"data.root={root}")


def test_data_that_are_not_there(fails: Callable[..., str], tmp_path: Path) -> None:
    said = fails("experiment=mnist_zero", f"data.root={tmp_path}", "data.download=false")
    assert "data.download=false" in said and "python scripts/prepare.py mnist" in said


def arrays(path: Path, **more: Any) -> list[str]:
    """A user's file of 8x8 images, and the words that choose it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(path, images=images, **more)
    words = ["data=arrays", f"data.path={path}", "data.train_images=24", "data.validation=8", "data.test_images=8"]
    return [*words, "data.validation_images=null"]


def test_an_image_without_an_observed_pixel(fails: Callable[..., str], tmp_path: Path) -> None:
    observed = np.ones((40, 8, 8), bool)
    observed[7] = False
    words = arrays(tmp_path / "mine.npz", observed=observed, labels=np.arange(40) % 3)
    said = fails(*words)
    assert "has no observed pixel" in said and "mine" in said


def test_labels_missing(fails: Callable[..., str], tmp_path: Path) -> None:
    words = arrays(tmp_path / "mine.npz")
    assert "has no labels: task=classify needs them" in fails(*words, "stem=zero")
    assert train(*TINY, f"output={tmp_path}", f"data.root={tmp_path}", *words, "task=density") == 0


def test_a_file_that_is_no_array(fails: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(pickle.dumps({"images": 3}))
    assert "mine.npz cannot be read" in fails("data=arrays", f"data.path={path}")
    assert "is not a file" in fails("data=arrays", f"data.path={tmp_path / 'none.npz'}")
    assert "data.path is empty" in fails("data=arrays")


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
    err = capsys.readouterr().err
    assert err == "interrupted: run the same command again to continue.\n"
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
