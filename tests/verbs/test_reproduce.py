"""``reproduce.py`` as its users meet it: it does what is missing, survives what happens to it, and tells the truth."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lacuna.errors import LacunaError
from lacuna.executors.run_plan import prerequisites_first
from lacuna.runs.folder import RunFolder
from lacuna.tables.request import seeds_of
from lacuna.verbs.command import verb
from tests.runs.real import ROOT
from tests.tables.planning import plan

CELLS = 14
RUNS = 8
Numbers = list[dict[str, str]]


def command(root: Path, output: Path, *words: str) -> list[str]:
    own = [f"data.root={root}", f"output={output}", "trainer.accelerator=cpu", "budget=smoke", "table=demo"]
    return [sys.executable, str(ROOT / "reproduce.py"), *own, *words]


def interruptible() -> None:
    """A group of its own, and Ctrl-C as a terminal has it (background jobs of a shell are deaf to it)."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def reproduce(root: Path, output: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(root, output, *words), capture_output=True, text=True, cwd=output.parent, timeout=600,
        preexec_fn=interruptible,
    )  # fmt: skip


def table(output: Path) -> Numbers:
    """The rendered numbers, without what depends on when and where they were made."""
    with (output / "tables" / "demo-smoke" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == CELLS
    return [{key: row[key] for key in ("row", "column", "mean", "sd", "n")} for row in rows]


def runs(output: Path) -> dict[str, int]:
    """Finished runs and when they were finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (output / "runs").glob("*/metrics.json")}


@pytest.fixture(scope="module")
def inline(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("reproduce") / "inline"
    done = reproduce(digits_root, output, "seeds=2")
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def numbers(inline: Path) -> Numbers:
    """What a reader of its table sees, before anybody asks for more seeds."""
    return table(inline)


@pytest.mark.slow
def test_everything_is_done_once_and_shown(inline: Path, numbers: Numbers, digits_root: Path) -> None:
    before = runs(inline)
    assert len(before) == 2 * RUNS
    assert all(row["n"] == "2" and 0 <= float(row["mean"]) <= 1 for row in numbers)
    assert (inline / "tables" / "demo-smoke" / "index.html").is_file()
    again = reproduce(digits_root, inline, "seeds=2")
    assert again.returncode == 0, again.stderr
    assert runs(inline) == before and table(inline) == numbers
    # one seed more is only that
    more = reproduce(digits_root, inline, "seeds=[0,1,5]")
    assert more.returncode == 0, more.stderr
    after = runs(inline)
    assert len(after) == 3 * RUNS and {name: after[name] for name in before} == before


@pytest.mark.slow
def test_ray_gives_the_same_numbers(numbers: Numbers, digits_root: Path, tmp_path: Path) -> None:
    done = reproduce(digits_root, tmp_path / "ray", "seeds=2", "executor=ray")
    assert done.returncode == 0, done.stderr
    assert table(tmp_path / "ray") == numbers


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "minutes"), [("inline", 0.2), ("ray", 0.4)])
def test_with_time_limits_to_the_same_table(
    executor: str, minutes: float, numbers: Numbers, digits_root: Path, tmp_path: Path
) -> None:
    output = tmp_path / "boxed"
    words = ("seeds=2", f"executor={executor}")
    for _ in range(3):
        boxed = reproduce(digits_root, output, *words, f"minutes={minutes}")
        assert boxed.returncode in (0, 75), boxed.stderr
        table(output)
        states = {RunFolder(path.parent).status.get("state") for path in (output / "runs").glob("*/status.json")}
        assert states <= {"done", "interrupted"}
        if boxed.returncode == 0:
            break
        last = boxed.stderr.splitlines()[-1]
        assert "runs are left" in last and "Run the same command again to go on." in last
    done = reproduce(digits_root, output, *words)
    assert done.returncode == 0, done.stderr
    assert table(output) == numbers


def test_when_the_time_limit_is_reached_nothing_starts_and_finished_runs_are_shown(
    digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    own = (f"data.root={digits_root}", f"output={output}", "budget=smoke", "table=demo", "minutes=1e-6")
    assert verb("reproduce", "lacuna.verbs.reproduce:main")(own) == 75
    assert capsys.readouterr().err == (
        f"time limit of 1 s reached: {RUNS} of {RUNS} runs are left. Run the same command again to go on. "
        "No run made progress in this time: set a higher limit with minutes=... .\n"
    )
    assert all(not row["mean"] for row in table(output)) and not (output / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_killed_three_times_and_still_the_same_table(
    executor: str, numbers: Numbers, digits_root: Path, tmp_path: Path
) -> None:
    rng = random.Random(executor)
    output = tmp_path / "killed"
    words = ("seeds=2", f"executor={executor}")
    for _ in range(3):
        process = subprocess.Popen(
            command(digits_root, output, *words), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=interruptible,
        )  # fmt: skip
        time.sleep(rng.uniform(6, 14))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = reproduce(digits_root, output, *words)
    assert done.returncode == 0, done.stderr
    assert table(output) == numbers


@pytest.mark.slow
def test_one_failed_run_leaves_one_hole_and_says_so(digits_root: Path, tmp_path: Path) -> None:
    output = tmp_path / "holes"
    broken = next(cell.recipes[0] for cell in demo_plan(digits_root, output).tables[0].cells if cell.row.key == "knn")
    (output / "runs").mkdir(parents=True)
    (output / "runs" / broken.name).write_text("a file where the run's folder should be")
    done = reproduce(digits_root, output)
    assert done.returncode == 1
    assert "1 run failed" in done.stderr and broken.name in done.stderr
    assert len(runs(output)) == RUNS - 1
    holes = [row for row in table(output) if not row["mean"]]
    assert {row["row"] for row in holes} == {"knn"}
    (output / "runs" / broken.name).unlink()
    mended = reproduce(digits_root, output)
    assert mended.returncode == 0, mended.stderr
    assert all(row["mean"] for row in table(output))


@pytest.mark.slow
def test_ctrl_c_stops_in_good_order_and_the_same_command_goes_on(digits_root: Path, tmp_path: Path) -> None:
    output = tmp_path / "stopped"
    process = subprocess.Popen(
        command(digits_root, output, "budget=paper"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=interruptible,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not list((output / "runs").glob("*/checkpoints/*.ckpt")) and time.monotonic() < until:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "run the same command again" in err
    states = {RunFolder(path.parent).status.get("state") for path in (output / "runs").glob("*/status.json")}
    assert "running" not in states and "failed" not in states


def demo_plan(root: Path, output: Path):
    from lacuna.config.composer import Composer
    from lacuna.config.paths import CONFIGS
    from lacuna.tables.request import find_tables

    composer = Composer(CONFIGS, "reproduce")
    return plan(root, output, *find_tables(composer.base(["table=demo"])["table"], composer))


def test_what_others_need_comes_first(digits_root: Path, tmp_path: Path) -> None:
    order = prerequisites_first(demo_plan(digits_root, tmp_path).unfinished())
    assert order[0].recipe.task == "density" and len(order) == RUNS


@pytest.mark.parametrize(("given", "seeds"), [(None, (0,)), (3, (0, 1, 2)), ([4, 2], (4, 2))])
def test_seeds(given: object, seeds: tuple[int, ...]) -> None:
    assert seeds_of(given) == seeds


@pytest.mark.parametrize("given", [0, -1, True, [], [1, 1], ["a"], "3", 1.5])
def test_no_seeds_are_one_sentence(given: object) -> None:
    with pytest.raises(LacunaError, match="seeds="):
        seeds_of(given)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "table is empty: choose one, for instance table=demo"),
        (("table=misconv/tabel1",), "There is no table 'misconv/tabel1'"),
        (("table=demo", "--", "seed=3"), "seed cannot be set after --: set it before"),
        (("table=demo", "--", "data.test_imgs=3"), "data.test_imgs: no cell of these tables has this key"),
        (("table=demo", "minutes=0"), "minutes=0 must be null or a number above 0"),
        (("table=demo", "executor=slum"), "There is no executor 'slum'"),
        (("table=demo", "executor.cpus=4096", "seeds=1"), "executor.cpus=4096"),
    ],
)
def test_mistakes_are_one_sentence(
    words: tuple[str, ...], sentence: str, digits_root: Path, tmp_path: Path, capsys
) -> None:
    own = (f"data.root={digits_root}", f"output={tmp_path / 'out'}", "budget=smoke")
    assert verb("reproduce", "lacuna.verbs.reproduce:main")([*own, *words]) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1
    assert not (tmp_path / "out" / "runs").exists()
