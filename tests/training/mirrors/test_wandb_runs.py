"""``logger=wandb`` offline, through the real commands, read back: what a dashboard will show is what is on disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lacuna.runs.folder import RunFolder
from lacuna.training.mirrors.directions import direction
from tests.runs.real import ROOT, TINY, recipe, start, train
from tests.wandb_files import OfflineRun, offline_runs

pytestmark = pytest.mark.slow


def one(folder: RunFolder) -> OfflineRun:
    (found,) = offline_runs(folder.path)
    return found


def test_a_run_and_its_prerequisite(tmp_path: Path, digits_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, f"data.root={digits_root}", f"output={tmp_path}", "logger=wandb", "logger.tags=[mine]", "seed=4"]
    words += ["logger.artifacts=all", "density.training.epochs=4", "logger.pictures_every=2"]
    assert train(*words) == 0
    said = capsys.readouterr().err
    assert said.count("logging offline") == 1 and "no W&B key" in said
    classifier = recipe(*words)
    for made in (classifier, classifier.prerequisites["density"]):
        folder = RunFolder.of(tmp_path, made)
        found = one(folder)
        assert (found.run.run_id, found.run.display_name) == (made.identity, made.name)
        assert (found.run.run_group, found.run.job_type) == (f"{made.group}-{made.family}", made.task)
        assert set(found.run.tags) == {made.task, "digits", "mine"}
        assert {key: found.config[key] for key in made.config} == made.config
        assert found.config["seed"] == 4
        assert found.exit_code == 0
        check_history(folder, found)
        kinds = {artifact.type: {e.path for e in artifact.manifest.contents} for artifact in found.of("artifact")}
        assert kinds["model"] == {"model.safetensors", "model.json", "recipe.json"}
        assert kinds["results"] >= {"metrics.json", "metrics.jsonl", "recipe.json", "environment.json"}
    shown = [row["training/imputations/filenames"] for row in found.history if "training/imputations/filenames" in row]
    assert len(shown) == 2  # of the density, in the epochs 1 and 3


def check_history(folder: RunFolder, found: OfflineRun) -> None:
    """Scalars, steps, definitions, final metrics and pictures of a run are those on disk."""
    on_disk = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    logged = [row for row in found.history if "train/loss" in row]
    assert [{key: row[key] for key in disk} for row, disk in zip(logged, on_disk, strict=True)] == on_disk
    for row in logged:
        assert row["train/learning_rate"] > 0 < row["speed/images_per_second"]
        assert row["speed/epoch_seconds"] > 0
    assert all("step" in row for row in found.history)
    (glob,) = [metric for metric in found.of("metric") if metric.glob_name]
    assert (glob.glob_name, glob.step_metric, glob.options.step_sync) == ("*", "step", True)
    for name in set(on_disk[0]) - {"step", "epoch"}:
        best = direction(name)
        if best is not None:
            assert found.metrics[name] == {best, "last"}
            values = [row[name] for row in on_disk]
            assert found.summary[name] == {best: {"max": max, "min": min}[best](values), "last": values[-1]}
    for name, value in folder.metrics["metrics"].items():
        summary = found.summary[name]
        assert (summary["last"] if isinstance(summary, dict) else summary) == pytest.approx(value)
    pictures = {path.stem for path in folder.pictures.glob("*.png")}
    assert {name for name in found.media() if not name.startswith("training/")} == pictures
    for name in pictures:
        (logged_files,) = [row[f"{name}/filenames"] for row in found.history if f"{name}/filenames" in row]
        (logged_file,) = logged_files
        assert (found.files / logged_file).read_bytes() == (folder.pictures / f"{name}.png").read_bytes()


def test_a_failed_run_is_closed_as_failed(tmp_path: Path, digits_root: Path) -> None:
    words = [*TINY, f"data.root={digits_root}", f"output={tmp_path}", "logger=wandb", "stem=zero"]
    # the weights overflow in the second epoch: the first one is logged
    bad = [*words, "net.training.lr_milestones=[[1,1e30]]", "net.training.epochs=3"]
    assert train(*bad) == 2
    folder = RunFolder.of(tmp_path, recipe(*bad))
    found = one(folder)
    assert found.exit_code == 1 and not folder.finished
    assert len(found.history) == 1
    # the next run of the same process is a run of its own
    assert train(*words) == 0
    found = one(RunFolder.of(tmp_path, recipe(*words)))
    assert (found.run.run_id, found.exit_code) == (recipe(*words).identity, 0)


def test_an_interrupted_run_is_closed_as_such_and_its_successor_is_complete(tmp_path: Path, digits_root: Path) -> None:
    words = [*TINY, f"data.root={digits_root}", f"output={tmp_path}", "logger=wandb", "stem=zero"]
    words += ["net.training.epochs=60", "trainer.checkpoint_seconds=0", "logger.pictures_every=0"]
    folder = RunFolder.of(tmp_path, recipe(*words))
    process = start(*words)
    while process.poll() is None and not (folder.checkpoints / "last.ckpt").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    interrupted = one(folder)
    assert interrupted.exit_code == 255
    assert 0 < len(interrupted.history) < 60
    assert train(*words) == 0
    # the file of the first attempt is no longer among those to be uploaded
    assert (interrupted.path.parent.parent / f"superseded-{interrupted.path.parent.name}").is_dir()
    (second,) = (folder.path / "wandb").glob("offline-run-*")
    found = OfflineRun(next(second.glob("*.wandb")))
    assert [row["epoch"] for row in found.history if "train/loss" in row] == list(range(60))
    assert found.exit_code == 0


def test_the_jobs_of_one_command_are_one_group(tmp_path: Path, digits_root: Path) -> None:
    """Of ``-m``; what is finished already is shown there, too, and only once."""
    words = [*TINY, f"data.root={digits_root}", f"output={tmp_path}", "stem=zero"]
    assert train(*words, "seed=1") == 0
    command("train.py", "-m", *words, "logger=wandb", "seed=1,2")
    assert train(*words, "seed=1", "logger=wandb") == 0
    made = [recipe(*words, f"seed={seed}") for seed in (1, 2)]
    first, second = (one(RunFolder.of(tmp_path, recipe)) for recipe in made)
    assert first.run.run_group == second.run.run_group != f"{made[0].group}-{made[0].family}"
    assert (first.config["seed"], second.config["seed"]) == (1, 2)
    assert first.media() == second.media() and first.summary.keys() >= {"test/accuracy", "validation/accuracy"}


def command(script: str, *words: str) -> str:
    done = subprocess.run([sys.executable, str(ROOT / script), *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_trials_of_a_sweep_are_one_group(tmp_path: Path, digits_root: Path) -> None:
    common = [f"data.root={digits_root}", f"output={tmp_path}", "budget=smoke", "trainer.accelerator=cpu"]
    command("sweep.py", "search=classifier", "experiment=digits_zero", "trials=3", "logger=wandb", *common)
    found = offline_runs(tmp_path)
    (sweep,) = (tmp_path / "sweeps").iterdir()
    assert {run.run.run_id for run in found} == {p.name.rsplit("-", 1)[-1] for p in (tmp_path / "runs").iterdir()}
    assert len(found) == 3
    for run in found:
        assert (run.run.run_group, run.run.job_type, run.exit_code) == (sweep.name, "classify", 0)
        assert {"sweep", "classifier"} <= set(run.run.tags)
        assert run.config["seed"] == 0 and run.metrics["validation/accuracy"] == {"max", "last"}
    assert len({run.config["net"]["training"]["lr"] for run in found}) == 3


def test_a_table_is_one_group_with_a_run_of_its_own(tmp_path: Path, digits_root: Path) -> None:
    words = [f"data.root={digits_root}", f"output={tmp_path}", "budget=smoke", "trainer.accelerator=cpu"]
    words += ["table=demo", "rows=[zero,misconv]"]
    command("reproduce.py", *words, "rows=[zero]")  # one run is there before
    command("reproduce.py", *words, "logger=wandb", "logger.artifacts=results")
    command("reproduce.py", *words, "logger=wandb", "logger.artifacts=results", "render=true")
    runs, tables = offline_runs(tmp_path / "runs"), offline_runs(tmp_path / "dashboards")
    assert len(runs) == 3  # once each: the second command has nothing to add
    assert {run.run.run_group for run in [*runs, *tables]} == {"demo"}
    tags = {run.run.job_type: set[str]() for run in runs}
    for run in runs:
        tags[run.run.job_type] |= set(run.run.tags)
    assert tags["classify"] == {"classify", "digits", "demo", "zero imputation", "MisConv"}
    assert tags["density"] == {"density", "digits", "demo", "prerequisite"}
    first, second = tables
    assert first.run.run_id == second.run.run_id and first.run.job_type == "table"
    assert {"demo", "smoke"} <= set(second.run.tags) and second.config["seeds"] == [0]
    assert second.media("tables") == {"results", "comparison"} and second.media("pages") == {"page"}
    assert any(name.startswith("pictures/MisConv, incomplete digits") for name in second.media())
    assert [artifact.type for artifact in second.of("artifact")].count("table") == 1
    check_table(second, tmp_path)


def check_table(found: OfflineRun, output: Path) -> None:
    """The logged numbers are those of the runs."""
    (row,) = [row for row in found.history if "results/path" in row]
    table = json.loads((found.files / row["results/path"]).read_text())
    cells = [dict(zip(table["columns"], values, strict=True)) for values in table["data"]]
    assert len(cells) == 4 and all(cell["state"] == "done" and cell["n"] == 1 for cell in cells)
    paths = output.glob("runs/*/metrics.json")
    metrics = {path.parent.name.split("-")[2]: json.loads(path.read_text())["metrics"] for path in paths}
    rows = {"zero imputation": "zero", "MisConv": "misconv"}
    for cell in cells:
        key, column = rows[cell["row"]], cell["column"].split()[0]
        assert cell["mean"] == metrics[key][cell["metric"]] == found.summary[f"{key}/{column}"]
    page = (found.files / row["page/path"]).read_text()
    assert "MisConv" in page and "<table" in page


def test_what_a_run_prints_is_kept(tmp_path: Path, digits_root: Path) -> None:
    words = [*TINY, f"data.root={digits_root}", f"output={tmp_path}", "logger=wandb", "stem=zero"]
    command("train.py", *words, "trainer.progress=true")
    found = one(RunFolder.of(tmp_path, recipe(*words)))
    assert "trained in" in "".join(output.line for output in found.of("output_raw"))
