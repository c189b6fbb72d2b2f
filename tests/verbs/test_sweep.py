"""``sweep.py`` as its users meet it: real runs, real kills, one sentence for a mistake."""

from __future__ import annotations

import html
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lacuna.config.compose import compose, split_overrides
from lacuna.config.help import examples, usage
from lacuna.config.jobs import jobs
from lacuna.config.paths import CONFIGS
from lacuna.runs.folder import RunFolder
from lacuna.search.problem import Problem
from lacuna.search.study import FINISHED, JOURNAL, PRUNED, Study
from lacuna.verbs.command import verb
from tests.runs.real import ROOT, train
from tests.search.standin import trials

DRIVER = """
import sys
from lacuna.verbs.command import verb
code = verb("sweep", "lacuna.verbs.sweep:main")()
heavy = {"torch", "pytorch_lightning"} & set(sys.modules)
sys.exit(code or (f"the process of the sweep imported {heavy}" if heavy else 0))
"""


def words(root: Path, output: Path, *more: str) -> list[str]:
    own = [f"data.root={root}", f"output={output}", "data.download=false", "trainer.accelerator=cpu", "budget=smoke"]
    return ["experiment=digits_misconv", "search=classifier", "executor.cpus=1", *own, *more]


def problem(*every: str) -> Problem:
    return Problem.of(compose(CONFIGS, "sweep", list(every)))


def interruptible() -> None:
    """A group of its own, and Ctrl-C as a terminal has it (background jobs of a shell are deaf to it)."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*every: str, driver: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, *(["-c", DRIVER] if driver else [str(ROOT / "sweep.py")]), *every]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=interruptible)


def run(*every: str, driver: bool = False) -> tuple[int, str, str]:
    process = start(*every, driver=driver)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def summary(every: list[str]) -> list[tuple[Any, ...]]:
    return [(t.number, t.raw, t.state, t.value) for t in trials(problem(*every))]


@pytest.fixture(scope="module")
def whole(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str]:
    """The words of a finished sweep of three trials, and what it printed."""
    every = words(digits_root, tmp_path_factory.mktemp("sweep") / "out", "trials=3")
    code, out, err = run(*every)
    assert code == 0, err
    assert (
        err.count("] trial ") == 3
        and "trained first, as a prerequisite of the trials: digits · square 25 % · DMFA" in err
    )
    return every, out


@pytest.mark.slow
def test_three_trials_by_the_real_command(whole: tuple[list[str], str]) -> None:
    every, out = whole
    searched = problem(*every)
    found = trials(searched)
    assert [trial.state for trial in found] == [FINISHED] * 3
    runs = [recipe for trial in found for recipe in searched.recipes(trial.raw)]
    for trial, recipe in zip(found, runs, strict=True):
        folder = RunFolder.of(searched.settings.output, recipe)
        assert folder.metrics["metrics"]["validation/accuracy"] == trial.value
        # what a W&B sweep would judge by is logged under the same name
        history = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
        assert history[-1]["validation/accuracy"] == pytest.approx(trial.value)
    # three classifiers on one density
    assert len(list((searched.settings.output / "runs").iterdir())) == 4
    page = (searched.folder / "index.html").read_text()
    command = next(line for line in out.splitlines() if line.startswith("python train.py "))
    assert command in html.unescape(page) and str(searched.folder / "index.html") in out


@pytest.mark.slow
def test_the_command_of_the_best_trial_is_that_run(whole: tuple[list[str], str], capsys: Any) -> None:
    every, out = whole
    command = next(line for line in out.splitlines() if line.startswith("python train.py "))
    assert train(*shlex.split(command)[2:]) == 0
    with Study.opened(problem(*every)) as study:
        best = study.best
    assert best is not None
    shown = capsys.readouterr().out
    assert "finished before" in shown and f"{best.value:.4f}" in shown


@pytest.mark.slow
def test_the_process_of_a_sweep_needs_no_torch(whole: tuple[list[str], str]) -> None:
    every, _ = whole
    before = summary(every)
    code, _, err = run(*every, "trials=4", driver=True)
    assert code == 0, err
    assert summary(every)[:3] == before and len(summary(every)) == 4
    journal = problem(*every).folder / JOURNAL
    content = journal.read_bytes()
    code, out, err = run(*every, "trials=4", driver=True)
    assert code == 0, err
    assert journal.read_bytes() == content and "the best trial as one run" in out


@pytest.mark.slow
def test_killed_and_interrupted_and_still_the_same_trials(
    whole: tuple[list[str], str], digits_root: Path, tmp_path: Path
) -> None:
    every = words(digits_root, tmp_path / "out", "trials=3")
    journal = problem(*every).folder / JOURNAL

    def until(lines: int, process: subprocess.Popen[str]) -> None:
        end = time.monotonic() + 300
        while time.monotonic() < end and process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
                return
            time.sleep(0.05)
        raise AssertionError(f"the journal has not {lines} lines in time: {process.communicate()}")

    process = start(*every)
    until(4, process)  # the study; trial 0 begun and ended; trial 1 begun
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    process = start(*every)
    until(6, process)  # trial 1 ended, trial 2 begun
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "run the same command again" in err
    code, _, err = run(*every)
    assert code == 0, err
    assert summary(every) == summary(whole[0])[:3]


@pytest.mark.slow
def test_a_density_is_judged_by_its_last_epoch(digits_root: Path, tmp_path: Path) -> None:
    every = words(digits_root, tmp_path / "out", "trials=2")
    every[:2] = ["experiment=digits_dmfa", "search=dmfa"]
    code, _, err = run(*every)
    assert code == 0, err
    searched = problem(*every)
    for trial in trials(searched):
        (recipe,) = searched.recipes(trial.raw)
        run_ = RunFolder.of(searched.settings.output, recipe)
        last = json.loads((run_.path / "metrics.jsonl").read_text().splitlines()[-1])
        assert trial.value == last["validation/nll_per_dim"] and last["epoch"] == recipe.training["epochs"] - 1


@pytest.mark.slow
def test_trials_that_fail_are_named_and_make_it_fail(digits_root: Path, tmp_path: Path) -> None:
    every = words(digits_root, tmp_path / "out", "trials=2", "stem=zero", "net.training.batch_size=12")
    every += ["search.parameters={net.training.lr: {low: 1.0e20, high: 1.0e30}}"]
    code, out, err = run(*every)
    assert code == 1 and "the best trial" not in out
    assert "2 of 2 trials are missing: 5 trials in a row failed" in err and "5 trials failed" in err
    assert "lower net.training.lr" in err
    page = next((tmp_path / "out" / "sweeps").glob("*/index.html")).read_text()
    assert "Failed trials" in page and "lower net.training.lr" in page


@pytest.mark.slow
def test_a_bad_trial_is_stopped_and_its_run_can_go_on(digits_root: Path, tmp_path: Path, capsys: Any) -> None:
    """Trial 0 learns; the next one hardly does, for its rate is at most a tenth of a millionth."""
    fixed = ["stem=zero", "net.training.batch_size=24", "net.hidden=32", "net.dropout=0", "search.pruner=median"]
    fixed += ["net.training.epochs=300", "budget.classify.max_epochs=300", "net.training.lr_milestones=[]"]
    rule = ["search.pruner_trials=1", "search.pruner_epochs=20"]
    space = "search.parameters={net.training.lr: {low: 1.0e-10, high: 1.0e-3}}"
    every = words(digits_root, tmp_path / "out", "trials=2", *fixed, *rule, space)
    code, out, err = run(*every)
    assert code == 0, err
    searched = Problem.of(compose(CONFIGS, "sweep", every), split_overrides(CONFIGS, every)[1])
    first, second = trials(searched)
    assert (first.state, second.state) == (FINISHED, PRUNED) and "trial 1 pruned after" in err
    folder = RunFolder.of(searched.settings.output, searched.recipes(second.raw)[0])
    assert not folder.finished and json.loads((folder.path / "status.json").read_text())["state"] == "interrupted"
    before = (folder.path / "metrics.jsonl").read_text().splitlines()
    assert 20 <= second.epochs <= len(before) < 300
    assert json.loads(before[second.epochs - 1])["validation/accuracy"] == pytest.approx(second.value)
    command = next(line for line in out.splitlines() if line.startswith("python train.py "))
    value = f"net.training.lr={searched.values(second.raw)['net.training.lr']!r}"
    assert train(*[word for word in shlex.split(command)[2:] if not word.startswith("net.training.lr=")], value) == 0
    assert folder.finished and (folder.path / "metrics.jsonl").read_text().splitlines()[: len(before)] == before


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("trials=0",), "trials=0 must be a whole number of at least 1"),
        (("trials=null",), "trials=None must be a whole number"),
        (("search=lr",), "There is no search 'lr'"),
        (("search=null",), "search is empty"),
        (("search.metric=test/accuracy",), "would select by test images"),
        (("net.training.learning=1",), "Unknown key 'net.training.learning'"),
        (("executor.cpus=4096",), "executor.cpus=4096"),
        (("search.pruner=best",), "search.pruner=best must be median, hyperband or null"),
    ],
)
def test_mistakes_are_one_sentence(
    more: tuple[str, ...], sentence: str, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {word.split("=")[0] for word in more}
    every = [word for word in words(digits_root, tmp_path / "out", "trials=1") if word.split("=")[0] not in given]
    every += more
    assert verb("sweep", "lacuna.verbs.sweep:main")(every) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("sweep: ")]
    assert len(errors) == 1 and sentence in errors[0]
    assert not (tmp_path / "out" / "runs").exists()


def test_what_the_command_line_fixes_is_said(digits_root: Path, tmp_path: Path, capsys: Any) -> None:
    every = words(digits_root, tmp_path / "out", "net.dropout=0.25", "executor.cpus=4096")
    assert verb("sweep", "lacuna.verbs.sweep:main")(every) == 2
    assert "net.dropout=0.25 is set on the command line: it is not searched\n" in capsys.readouterr().err


def test_the_examples_of_the_help_can_be_typed() -> None:
    for line in examples("sweep", CONFIGS):
        python, script, *given = line.split()
        assert (python, script) == ("python", "sweep.py")
        for job in jobs(CONFIGS, "sweep", given).overrides:
            config = compose(CONFIGS, "sweep", job)
            assert config["search"]["task"] == config["task"]["name"]
    text = usage("sweep", CONFIGS)
    assert "search=\n  classifier  dmfa" in text and "experiment=" in text and "-m" in text


@pytest.mark.parametrize("path", sorted((CONFIGS.main / "search").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_search_says_its_own_name_and_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert yaml.safe_load(path.read_text())["name"] == path.stem


@pytest.mark.parametrize(
    "name", ["mnist_misconv", "svhn_misconv", "cifar10_zero", "mnist_dmfa", "svhn_dmfa", "celeba64_dmfa"]
)
def test_the_searches_fit_the_papers_experiments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the data, which most machines do not have."""
    monkeypatch.setattr("lacuna.search.problem._prepare", lambda config, who: "0123456789ab")
    search = "dmfa" if name.endswith("dmfa") else "classifier"
    searched = problem(f"experiment={name}", f"search={search}")
    assert searched.start is not None and searched.recipes(searched.start)[0].training["epochs"] > 1


def test_planning_and_the_page_import_no_torch(digits_root: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from lacuna.config.paths import CONFIGS; from lacuna.config.compose import compose;"
        "import lacuna.verbs.sweep; from lacuna.search.problem import Problem; from lacuna.search.study import Study;"
        "from lacuna.search.page import write_sweep_page;"
        "problem = Problem.of(compose(CONFIGS, 'sweep', sys.argv[1:]));"
        "study = Study.opened(problem); inside = study.__enter__(); trial = inside.ask(); inside.tell(trial, 0.5);"
        "write_sweep_page(problem, inside, None); assert 'torch' not in sys.modules, 'torch was imported'"
    )
    given = [sys.executable, "-c", script, *words(digits_root, tmp_path / "out")]
    done = subprocess.run(given, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
