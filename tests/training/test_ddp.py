"""Law: how many devices train a run changes nothing of it (beyond rounding), nor do kills and interrupts."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.tasks.dmfa import TrainDMFA
from lacuna.training.loggers import read_history
from lacuna.training.ranks import start as start_ranks
from lacuna.training.run import execute
from tests.runs import two_ranks
from tests.runs.processes import all_gone, children
from tests.runs.real import TINY, contents, recipe, start

# The last batch of an epoch is smaller, and larger on rank 0; the loss of the density has its own weights.
WORDS = (*TINY, "data.train_images=91", "density.training.epochs=10", "stem=misconv")
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.progress=false", "trainer.checkpoint_seconds=0")


def settings(output: Path, root: Path, **trainer: Any) -> Settings:
    base = {"accelerator": "cpu", "progress": False, "checkpoint_seconds": 0}
    return Settings(output, root, download=False, trainer={**base, **trainer})


@pytest.fixture(scope="module")
def made(digits_root: Path) -> Recipe:
    """A classifier with batch normalisation, on a frozen density that has it, too."""
    return recipe(*WORDS, f"data.root={digits_root}")


@pytest.fixture(scope="module")
def runs(made: Recipe, digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The folder of all runs, by the number of devices that trained them."""
    found = {}
    for devices in (1, 2):
        output = tmp_path_factory.mktemp(f"devices-{devices}")
        execute(made, settings(output, digits_root, devices=devices), announce=False)
        found[devices] = output / "runs"
    return found


@pytest.fixture(params=["density", "classify"])
def pair(request: pytest.FixtureRequest, runs: dict[int, Path], made: Recipe) -> list[RunFolder]:
    """The same run on one device and on two."""
    one = made if request.param == "classify" else made.prerequisites["density"]
    return [RunFolder(runs[devices] / one.name) for devices in (1, 2)]


@pytest.mark.slow
def test_weights_do_not_depend_on_the_number_of_devices(pair: list[RunFolder]) -> None:
    alone, together = (load_file(run.path / "model.safetensors") for run in pair)
    assert alone.keys() == together.keys()
    gaps = torch.cat([(together[name] - alone[name]).abs().flatten() for name in alone])
    # Adam makes a step of full length of a gradient that is nothing but rounding, so a few weights may differ more
    assert gaps.mean() < 1e-7 and gaps.quantile(0.99) < 1e-6 and gaps.max() < 1e-3


@pytest.mark.slow
def test_neither_do_history_and_metrics(pair: list[RunFolder]) -> None:
    alone, together = (read_history(run.path / "metrics.jsonl") for run in pair)
    assert len(alone) == len(together)
    for a, b in zip(alone, together, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    assert alone[0]["train/loss"] == pytest.approx(together[0]["train/loss"], rel=1e-5)
    a, b = (run.metrics for run in pair)
    assert a["metrics"] == pytest.approx(b.pop("metrics"), rel=1e-3, abs=1e-4)
    assert b.items() <= a.items()


@pytest.mark.slow
def test_only_one_rank_writes(pair: list[RunFolder]) -> None:
    names = [{str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file()} for run in pair]
    assert names[0] == names[1]
    assert [run.attempts[0]["devices"] for run in pair] == [1, 2]
    assert [run.status["state"] for run in pair] == ["done", "done"]


@pytest.mark.slow
def test_one_step_on_unequal_shares_is_that_on_the_whole_batch(tmp_path: Path) -> None:
    start_ranks([sys.executable, str(two_ranks.__file__), str(tmp_path)], 2, tmp_path)
    net, (images, weights) = two_ranks.network(), two_ranks.batch()
    loss = two_ranks.mean_loss(net(images), weights)
    loss.backward()
    expected = {**net.state_dict(), **{f"{name}.grad": w.grad for name, w in net.named_parameters()}}
    for rank in range(2):
        state = torch.load(tmp_path / f"state-{rank}.pt", weights_only=True)
        torch.testing.assert_close(state, expected, rtol=1e-12, atol=1e-13)
        found = json.loads((tmp_path / f"found-{rank}.json").read_text())
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-12)
        assert found["judged"] == {"mse": 1.0, "pixels": 32.0, "images": 2.0}
        assert (found["calls"], found["reverted"]) == (1 - rank, True)
        # all 3 items are rank 1's, so its loss counts twice in the average over two ranks
        assert (found["whole"], found["none"]) == (2.0 * rank, 0.0)


def wait_for_lines(history: Path, number: int, process: Any) -> None:
    while process.poll() is None and (not history.exists() or history.read_bytes().count(b"\n") < number):
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_interrupted_and_resumed_is_as_if_nothing_had_happened(
    runs: dict[int, Path], made: Recipe, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    density = made.prerequisites["density"]
    run = RunFolder.of(tmp_path, density)
    words = (*WORDS, *DDP, "task=density", f"data.root={digits_root}", f"output={tmp_path}")

    process = start(*words)
    wait_for_lines(run.path / "metrics.jsonl", 2, process)
    ranks = children(process.pid)
    process.kill()
    process.communicate()
    assert len(ranks) == 2 and all_gone(ranks) and not list(temporary.glob("lacuna-*"))
    assert run.resumable and not run.finished

    with pytest.raises(LacunaError, match="was written by 2 processes and cannot be resumed exactly with 1"):
        execute(density, settings(tmp_path, digits_root), announce=False)

    process = start(*words)
    lines = len(read_history(run.path / "metrics.jsonl"))
    wait_for_lines(run.path / "metrics.jsonl", lines + 2, process)
    ranks = children(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert len(ranks) == 2 and all_gone(ranks, 0) and not list(temporary.glob("lacuna-*"))
    assert run.status["state"] == "interrupted" and not run.finished

    execute(density, settings(tmp_path, digits_root, devices=2), announce=False)
    assert contents(run.path) == contents(runs[2] / density.name)


@pytest.mark.slow
def test_a_task_that_cannot_share_its_batches_takes_one_device(
    runs: dict[int, Path], made: Recipe, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    density = made.prerequisites["density"]
    monkeypatch.setattr(TrainDMFA, "several_devices", False)
    run = execute(density, settings(tmp_path, digits_root, devices=3), announce=False)
    assert run.attempts[0]["devices"] == 1
    assert contents(run.path) == contents(runs[1] / density.name)


@pytest.mark.slow
def test_a_mistake_found_by_the_ranks_is_one_sentence_with_a_traceback_in_the_log(
    digits_root: Path, tmp_path: Path
) -> None:
    wild = recipe(*TINY, "task=density", "density.training.lr=1e30", f"data.root={digits_root}")
    with pytest.raises(LacunaError, match=r"lower density\.training\.lr \(now 1e\+30\)\.$"):
        execute(wild, settings(tmp_path, digits_root, devices=2), announce=False)
    run = RunFolder.of(tmp_path, wild)
    assert run.status["state"] == "failed"
    log = (run.path / "log.txt").read_text()
    assert "lacuna/tasks/base.py" in log and "LacunaError" in log


@pytest.mark.parametrize("devices", [0, -1, 1.5, "2", True])
def test_devices_are_a_whole_number(devices: Any, tmp_path: Path) -> None:
    with pytest.raises(LacunaError, match=r"trainer\.devices=.* must be a whole number of at least 1"):
        settings(tmp_path, tmp_path, devices=devices)


@pytest.mark.parametrize(
    ("gpus", "trainer", "words"),
    [
        (0, {"devices": 3}, r"trainer\.devices=3 cannot share batches of 32 images .*evenly"),
        (0, {"devices": 2, "accelerator": "cuda"}, r"trainer\.devices=2: there are 0 GPUs"),
        (1, {"devices": 2, "accelerator": "auto"}, r"trainer\.devices=2: there are 1 GPUs"),
        (0, {"devices": 2, "accelerator": "mps"}, r"on trainer\.accelerator=mps a run takes 1 device"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(
    gpus: int,
    trainer: Any,
    words: str,
    made: Recipe,
    digits_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(LacunaError, match=words):
        execute(made, settings(tmp_path, digits_root, **trainer), announce=False)
    assert not list(tmp_path.iterdir())
