"""``kill -9`` of the real command at any moment, then the same command: nobody can tell.

Each ``train.py`` takes seconds to start, so a few kills at random moments share one experiment.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.runs.real import TINY, contents, recipe, start, train

pytestmark = pytest.mark.slow

# Long enough to be hit, a checkpoint after every step.
LONG = (*TINY, "density.training.epochs=8", "net.training.epochs=10", "trainer.checkpoint_seconds=0")


def runs_of(output: Path, root: Path) -> tuple[Path, Path]:
    """The folders of the classifier's run and of the density's."""
    classifier = recipe(*LONG, f"data.root={root}")
    return tuple(output / "runs" / r.name for r in (classifier, classifier.prerequisites["density"]))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, digits_root: Path) -> list[dict[str, bytes]]:
    """The files of both runs when nothing interrupts them."""
    output = tmp_path_factory.mktemp("whole")
    assert train(*LONG, f"data.root={digits_root}", f"output={output}") == 0
    return [contents(run) for run in runs_of(output, digits_root)]


def kill_at(seconds: float, run: Path, *words: str) -> bool:
    """Start the command, kill it ``seconds`` after ``run`` has begun its training; whether it was alive by then."""
    process = start(*words)
    history = run / "metrics.jsonl"
    size = history.stat().st_size if history.exists() else -1
    while process.poll() is None and not (run / "metrics.json").exists():
        if (run / "checkpoints" / "last.ckpt").exists() and (not history.exists() or history.stat().st_size != size):
            time.sleep(seconds)
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(seed: int, whole: list[dict[str, bytes]], tmp_path: Path, digits_root: Path) -> None:
    chance = random.Random(seed)
    classifier, density = runs_of(tmp_path, digits_root)
    words = (*LONG, f"data.root={digits_root}", f"output={tmp_path}")
    killed = [kill_at(chance.uniform(0, 0.3), run, *words) for run in (density, classifier)]
    assert all(killed)
    # killed while it reads the data, makes folders, or goes on
    process = start(*words)
    time.sleep(chance.uniform(0, 6))
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert train(*words) == 0
    assert [contents(run) for run in (classifier, density)] == whole
    assert not list(classifier.glob("checkpoints/*"))


def test_two_processes_share_a_run(whole: list[dict[str, bytes]], tmp_path: Path, digits_root: Path) -> None:
    words = (*LONG, f"output={tmp_path}", f"data.root={tmp_path / 'data'}", "data.download=false")
    processes = [start(*words) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    said = "".join(out for out, _ in outputs).splitlines()
    classifier, density = runs_of(tmp_path, digits_root)
    for run in (classifier, density):
        assert said.count(f"training: {run}") == 1
        assert len([line for line in said if line.startswith("finished") and line.endswith(str(run))]) == 1
    assert [contents(run) for run in (classifier, density)] == whole


def test_ctrl_c_is_one_line_and_goes_on_later(whole: list[dict[str, bytes]], tmp_path: Path, digits_root: Path) -> None:
    words = (*LONG, f"data.root={digits_root}", f"output={tmp_path}")
    classifier, density = runs_of(tmp_path, digits_root)
    process = start(*words)
    while process.poll() is None and not (classifier / "status.json").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("interrupted") and "Traceback" not in err
    assert '"interrupted"' in (classifier / "status.json").read_text()
    assert contents(density) == whole[1]
    assert train(*words) == 0
    assert contents(classifier) == whole[0]
