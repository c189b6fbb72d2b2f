"""The one command for a GPU machine, rehearsed on the CPU as it runs there, with wandb, Ray and Optuna out of reach."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lacuna.runs.archive import unpack
from lacuna.runs.results import finished_runs
from tests.runs.real import ROOT

READER = """
import numpy as np
from pathlib import Path
def load_mnist(split):
    packed = np.load(Path(__file__).with_name(f"mnist_{split}.npz"))
    return packed["images"], packed["labels"]
"""
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("wandb", "ray", "optuna"):
            raise ModuleNotFoundError(f"{name} is out of reach", name=name)
sys.meta_path.insert(0, Blocker())
"""
MINUTES, SLACK = 2.0, 60.0
"""The time limit; seconds that a busy machine may need beyond it to end processes."""
THIRD_PARTY = {
    *("torch", "torchvision", "torchmetrics", "pytorch_lightning", "lightning_fabric", "numpy", "scipy"),
    *("lightning_utilities", "sklearn"),
    *("pandas", "matplotlib", "mpl_toolkits", "safetensors", "filelock", "PIL", "yaml", "hydra", "omegaconf", "rich"),
}
"""What a GPU machine has, and what comes as wheels."""
OPTIONS = {
    "wandb": ("training/mirrors/wandb_access.py",),
    "ray": ("executors/ray_cluster.py", "executors/ray_worker.py", "executors/on_ray.py"),
    "optuna": ("search/page.py", "search/study.py", "search/space.py", "search/problem.py", "search/loop.py"),
    "submitit": ("executors/slurm_job.py",),
    "torch_fidelity": ("metrics/features.py", "metrics/fid.py", "bench/fid.py"),
    "inpainting": ("bench/misconv.py",),  # the authors' repository
}
"""What only one option needs -> the files that may import it, inside functions."""


@pytest.fixture
def without_options(tmp_path: Path) -> dict[str, str]:
    """An environment in which wandb, Ray and Optuna cannot be imported, by children neither."""
    (tmp_path / "blocker").mkdir()
    (tmp_path / "blocker" / "sitecustomize.py").write_text(BLOCKER)
    paths = [str(tmp_path / "blocker"), str(ROOT / "src"), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def rehearse(tmp_path: Path, environment: dict[str, str], *words: str) -> tuple[int, str]:
    """The command on tiny packed digits; its exit code and what it printed."""
    data = tmp_path / "packed"
    data.mkdir()
    (data / "load.py").write_text(READER)
    rng = np.random.default_rng(0)
    for split, count in (("train", 64), ("test", 32)):
        images = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
        np.savez(data / f"mnist_{split}.npz", images=images, labels=np.arange(count, dtype=np.uint8) % 10)
    places = [f"data={data}", f"output={tmp_path / 'out'}", f"work={tmp_path / 'work'}"]
    command = [sys.executable, str(ROOT / "scripts" / "gpu.py"), "accelerator=cpu", "budget=smoke", *places, *words]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.slow
def test_everything_within_its_time_limit(tmp_path: Path, without_options: dict[str, str]) -> None:
    begun = time.monotonic()
    words = ("tables=demo", "cells=mnist", "seconds=0.1", f"minutes={MINUTES}", "shares=25,25,45,5")
    code, text = rehearse(tmp_path, without_options, *words)
    assert time.monotonic() - begun < 60 * MINUTES + SLACK, text
    assert code == 0, text
    output, work = tmp_path / "out", tmp_path / "work"
    found = {path.name for path in output.iterdir()}
    expected = {"tests.json", "steps.json", "cells.json", "archive.json", "archive.jsonl", "summary.txt"}
    assert expected <= found <= {*expected, "resume.tgz"} and len(found) <= 8  # as many as come back
    read = {part: json.loads((output / f"{part}.json").read_text()) for part in ("tests", "steps", "cells", "archive")}
    summary = (output / "summary.txt").read_text().splitlines()
    assert summary == [f"{part} ({content['state']}): {content['line']}" for part, content in read.items()]
    assert {content["state"] for content in read.values()} <= {"done", "out of time"}, read
    _check_tests(read["tests"])
    _check_steps(read["steps"])
    _check_cells(read["cells"], work)
    _check_archive(read["archive"], output, work, tmp_path)


def _check_tests(content: dict[str, Any]) -> None:
    """No GPU, so all are skipped, and each says so."""
    assert {test["outcome"] for test in content["tests"]} <= {"skipped"}
    assert all(test["reason"] == "needs a GPU" for test in content["tests"])


def _check_steps(content: dict[str, Any]) -> None:
    """Hours are what the milliseconds say; what is missing is named, and then the hours are a lower bound."""
    for kind in content["kinds"]:
        seconds = kind["steps"] * kind["ms"] / 1e3 + kind["runs"] * kind["begin_seconds_a_run"]
        assert kind["ms"] > 0 and kind["hours_alone"] == pytest.approx(seconds / 3600)
        assert kind["hours_best"] <= kind["hours_alone"] + 1e-12
    assert content["hours_alone"] == pytest.approx(sum(kind["hours_alone"] for kind in content["kinds"]))
    runs = sum(kind["runs"] for kind in [*content["kinds"], *content["not_measured"]])
    assert runs == content["runs"] > 0
    assert content["lower_bound"] == bool(content["not_measured"]) == ("at least" in content["line"])
    assert (content["state"] == "done") == (not content["not_measured"])


def _check_cells(content: dict[str, Any], work: Path) -> None:
    """What is called done is done, with metrics; nothing failed."""
    done = {run.folder.path.name for run in finished_runs(work)}
    for row in content["cells"]:
        assert (row["state"] == "done") == (row["run"] in done) == ("metrics" in row)
    numbers = sum(row["numbers"] for row in content["cells"] if row["state"] == "done")
    assert content["line"].startswith(f"{numbers} published numbers have a result") and not content["failed"]
    assert any("misconv/table1" in cell for row in content["cells"] for cell in row["cells"])


def _check_archive(content: dict[str, Any], output: Path, work: Path, tmp_path: Path) -> None:
    """Every finished run, and nothing else, in one file that an archive takes."""
    done = {run.folder.path.name for run in finished_runs(work)}
    report = unpack(output / "archive.jsonl", tmp_path / "results")
    assert set(report.written) == done and content["runs"] == len(done) and not report.refused


@pytest.mark.slow
def test_a_terminated_machine_keeps_what_it_has(tmp_path: Path, without_options: dict[str, str]) -> None:
    output = tmp_path / "out"
    words = [f"output={output}", f"work={tmp_path / 'work'}", "parts=steps,archive", "tables=demo", "budget=smoke"]
    command = [sys.executable, str(ROOT / "scripts" / "gpu.py"), "accelerator=cpu", *words]
    process = subprocess.Popen(command, env=without_options, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while not (output / "steps.json").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "interrupted" in errors
    assert json.loads((output / "archive.json").read_text())["runs"] == 0


VERBS = """
import sys
from lacuna.verbs.command import verb
root, output = sys.argv[1:3]
tiny = sys.argv[3:]
common = ["budget=smoke", f"output={output}", f"data.root={root}"]
def call(name, target, *words):
    code = verb(name, target)([*words])
    assert code == 0, (name, code)
call("train", "lacuna.verbs.train:main", "experiment=digits_dmfa", *common, *tiny)
call("evaluate", "lacuna.verbs.evaluate:main", "run=digits-square-dmfa-smoke", f"output={output}", f"data.root={root}")
call("reproduce", "lacuna.verbs.reproduce:main", "table=demo", "rows=[zero]", "executor=inline", *common)
import numpy
numpy.save(f"{output}/x.npy", numpy.where(numpy.eye(8)[None] > 0, numpy.nan, 0.5))
call("impute", "lacuna.verbs.impute:main", "run=digits-square-dmfa-smoke", f"output={output}", f"input={output}/x.npy",
     f"to={output}/completed")
print("loaded:", sorted({"wandb", "ray", "optuna"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_no_verb_needs_wandb_ray_or_optuna(tmp_path: Path, without_options: dict[str, str], digits_root: Path) -> None:
    command = [sys.executable, "-c", VERBS, str(digits_root), str(tmp_path / "runs")]
    command += ["trainer.accelerator=cpu", "trainer.progress=false"]
    ended = subprocess.run(command, env=without_options, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert ended.returncode == 0 and "loaded: []" in ended.stdout, ended.stdout + ended.stderr


def test_nothing_is_imported_that_a_gpu_machine_lacks() -> None:
    found: dict[str, set[str]] = {}
    for folder in ("src/lacuna", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name in ("docs_hooks.py", "docs_docstrings.py"):  # loaded by MkDocs alone
                continue
            for name, inside in _imports(path):
                outside = name not in THIRD_PARTY | set(sys.stdlib_module_names) | {"lacuna"}
                if outside and not (ROOT / "scripts" / "bench" / f"{name}.py").exists():
                    place = path.relative_to(ROOT / folder).as_posix()
                    assert inside, f"{path} imports {name} wherever it is imported itself"
                    found.setdefault(name, set()).add(place)
    wrong = {name: places - set(OPTIONS.get(name, ())) for name, places in found.items()}
    assert not {name: places for name, places in wrong.items() if places}


def _imports(path: Path) -> list[tuple[str, bool]]:
    """Top-level names that a file imports, and whether it does so inside a function or for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef) or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.dump(outer.test))
        for node in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        found += [(name.split(".")[0], id(node) in inner) for name in names]
    return found
