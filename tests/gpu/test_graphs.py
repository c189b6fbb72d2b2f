"""Training steps recorded as CUDA graphs train as eager ones do, also when a run is killed and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lacuna.runs.folder import RunFolder
from lacuna.runs.settings import Settings
from lacuna.tasks.base import Task
from lacuna.tasks.common import stepping
from lacuna.tasks.common.steps import CudaRecorder
from lacuna.training.run import execute
from tests.gpu.test_cuda import TASKS, agree, distances, exact, found, made  # noqa: F401

TRAINED = [name for name in TASKS if name != "smfa"]  # EM has no steps
COMPONENTS = {"density": ("dmfa",), "flow": ("acflow",), "net": ("zero", "partial", "misconv", "wae")}


def long(name: str, root: Path) -> Any:
    """17 epochs of 12 full batches and an incomplete one: more than 200 steps."""
    part = next((part for part, names in COMPONENTS.items() if name in names), "imputer")
    sizes = (f"{part}.training.batch_size=8", f"{part}.training.epochs=17", "data.train_images=100")
    return made(root, *TASKS[name], sizes=sizes)


def trained(run: Any, output: Path, root: Path, step: str) -> dict[str, Any]:
    trainer = {"accelerator": "cuda", "progress": False, "checkpoint_seconds": 0, "step": step}
    return found(execute(run, Settings(output, root, False, trainer), announce=False))


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What became of every recording."""
    original, results = CudaRecorder.record, list[str]()

    def record(self: CudaRecorder, step: Any) -> Any:
        try:
            made = original(self, step)
        except RuntimeError as error:
            results.append(f"failed: {error}")
            raise
        results.append("recorded")
        return made

    monkeypatch.setattr(CudaRecorder, "record", record)
    return results


@pytest.mark.gpu
@pytest.mark.parametrize("name", TRAINED)
def test_graph_and_eager_agree(
    name: str,
    exact: None,  # noqa: F811
    recordings: list[str],
    tmp_path: Path,
    digits_root: Path,
) -> None:
    run = long(name, digits_root)
    eager = trained(run, tmp_path / "eager", digits_root, "eager")
    assert not recordings
    graph = trained(run, tmp_path / "graph", digits_root, "graph")
    assert recordings and set(recordings) == {"recorded"}, recordings
    apart = distances(eager, graph)
    assert agree(apart), apart


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["dmfa", "misconv", "prflow", "misgan"])
def test_a_killed_graph_run_goes_on(
    name: str,
    exact: None,  # noqa: F811
    recordings: list[str],
    tmp_path: Path,
    digits_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of an epoch, after steps have been replayed."""
    run = long(name, digits_root)
    whole = trained(run, tmp_path / "whole", digits_root, "graph")
    original = stepping.Stepping._count

    def count(task: Task, batches: int) -> None:
        original(task, batches)
        if task.batches_done == 33 and task.config["task"]["name"] == run.task:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(stepping, "CHUNK_SECONDS", 0)
        patch.setattr(stepping.Stepping, "_count", count)
        with pytest.raises(Killed):
            trained(run, tmp_path / "parts", digits_root, "graph")
    assert RunFolder.of(tmp_path / "parts", run).resumable
    apart = distances(whole, trained(run, tmp_path / "parts", digits_root, "graph"))
    assert set(recordings) == {"recorded"} and max(apart.values()) < 1e-4, apart
