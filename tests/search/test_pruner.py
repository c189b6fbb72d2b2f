"""Pruned are exactly the trials that the rule names, at the epoch that it names, whatever happens to the sweep."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import optuna
import pytest

from lacuna.errors import LacunaError
from lacuna.search.page import write_sweep_page
from lacuna.search.problem import Problem
from lacuna.search.pruner import Rule
from lacuna.search.study import FAILED, FINISHED, JOURNAL, PRUNED, RUNNING, Study, Trial
from tests.search.epochs import EPOCHS, Epochs, rising
from tests.search.standin import Analytic, Killed, problem, sweep, trials

WANTED = 16


@pytest.fixture
def make(digits_root: Path, tmp_path: Path) -> Any:
    def made(*words: str, output: str = "out") -> Problem:
        own = ("experiment=digits_zero", "search.pruner=median", "search.pruner_trials=3", "seed=2")
        kept = [word for word in own if word.split("=")[0] not in {given.split("=")[0] for given in words}]
        return problem(digits_root, tmp_path / output, *kept, *words)

    return made


def summary(found: list[Trial]) -> list[tuple[Any, ...]]:
    return [(trial.number, tuple(trial.raw.items()), trial.state, trial.value, trial.epochs) for trial in found]


def by_hand(searched: Problem, found: list[Trial], least: int, first: int) -> list[tuple[str, int]]:
    """State and epochs of each trial by the median rule (Golovin et al., 2017), one trial after another."""
    curves, expected = [], []
    for trial in found:
        (recipe, *_) = searched.recipes(trial.raw)
        curve = [rising(recipe, epochs) for epochs in range(1, EPOCHS + 1)]
        end = next(
            (
                n
                for n in range(first, EPOCHS)
                if len(curves) >= least and max(curve[:n]) < statistics.median(other[n - 1] for other in curves)
            ),
            None,
        )
        expected.append((FINISHED, EPOCHS) if end is None else (PRUNED, end))
        if end is None:
            curves.append(curve)
    return expected


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(("least", "first"), [(3, 1), (1, 4)])
def test_the_median_rule_is_that_of_the_paper(direction: str, least: int, first: int, make: Any) -> None:
    words = [f"search.direction={direction}", f"search.pruner_trials={least}", f"search.pruner_epochs={first}"]
    searched = make(*words)
    sign = 1 if direction == "maximize" else -1
    executor = Epochs(lambda recipe, epochs: sign * rising(recipe, epochs))
    found, stopped = sweep(searched, executor, WANTED)
    assert stopped is None and len(found) == WANTED
    assert [(trial.state, trial.epochs) for trial in found] == by_hand(searched, found, least, first)
    assert 2 <= sum(trial.state == PRUNED for trial in found) <= WANTED - least
    for trial in found:
        (recipe,) = searched.recipes(trial.raw)
        assert executor.epochs[recipe.identity] == trial.epochs  # none was trained further
        assert trial.value == pytest.approx(sign * rising(recipe, trial.epochs))
        assert (recipe.identity in executor.cancelled) == (trial.state == PRUNED)


def test_hyperband_stops_only_those_that_are_not_among_the_best(make: Any) -> None:
    searched = make("search.pruner=hyperband", "search.pruner_epochs=3")
    executor = Epochs()
    found, _ = sweep(searched, executor, 30)
    pruned = [trial for trial in found if trial.state == PRUNED]
    assert len(pruned) >= 5 and all(trial.epochs >= 3 for trial in pruned)
    for trial in pruned:
        before = [other for other in found[: trial.number] if other.epochs >= trial.epochs]
        values = [rising(searched.recipes(other.raw)[0], trial.epochs) for other in before]
        assert any(value > rising(searched.recipes(trial.raw)[0], trial.epochs) for value in values)


def test_without_a_pruner_nothing_is_recorded(make: Any) -> None:
    plain, followed = make("search.pruner=null", output="plain"), make("search.pruner_trials=99", output="followed")
    found, _ = sweep(plain, Epochs(), 12)
    same, _ = sweep(followed, Epochs(), 12)
    assert [trial[:4] for trial in summary(found)] == [trial[:4] for trial in summary(same)]
    assert {trial.epochs for trial in found} == {0} and {trial.epochs for trial in same} == {EPOCHS}
    assert len((plain.folder / JOURNAL).read_text().splitlines()) == 1 + 2 * 12  # the study, and two lines a trial
    assert plain.name == followed.name


def test_killed_and_resumed_the_same_are_pruned(make: Any) -> None:
    whole = make(output="whole")
    expected, _ = sweep(whole, Epochs(), WANTED)
    for kill_at in (4, 30, 45):
        searched = make(output=f"killed{kill_at}")
        with pytest.raises(Killed):
            sweep(searched, Epochs(kill_at=kill_at), WANTED)
        assert [trial.state for trial in trials(searched)].count(RUNNING) == 1
        found, _ = sweep(searched, Epochs(), WANTED)
        assert summary(found) == summary(expected)


def test_the_next_command_does_not_try_pruned_trials_again(make: Any) -> None:
    searched = make()
    sweep(searched, Epochs(), 10)
    before = summary(trials(searched))
    assert PRUNED in [trial[2] for trial in before]
    idle = Epochs()
    found, _ = sweep(searched, idle, 10)
    assert summary(found) == before and idle.epochs == {}
    found, _ = sweep(searched, Epochs(), 12)
    assert summary(found)[:10] == before and len(found) == 12


def test_all_runs_of_a_trial_are_stopped_with_its_first(make: Any) -> None:
    searched = make("seeds=3")
    executor = Epochs(slots=2)
    found, _ = sweep(searched, executor, WANTED)
    pruned = [trial for trial in found if trial.state == PRUNED]
    assert pruned
    for trial in found:
        trained = [executor.epochs.get(recipe.identity, 0) for recipe in searched.recipes(trial.raw)]
        assert trained == [EPOCHS] * 3 if trial.state == FINISHED else trained[0] == trial.epochs
        assert trial.state == FINISHED or sum(trained) < 3 * EPOCHS
    assert executor.running == []


def test_equal_values_are_pruned_alike(make: Any) -> None:
    """A trial whose run was stopped before in this command has no run of its own; nothing ends because of it."""
    fixed = ("net.training.lr=1e-3", "net.training.batch_size=24", "net.dropout=0.1", "search.pruner_trials=1")
    searched = make(*fixed, "search.parameters={net.hidden: {low: 32, high: 33}}")

    def either(recipe: Any, epochs: int) -> float:
        return epochs * float(recipe.config["net"]["hidden"] == 32)

    executor = Epochs(either)
    found, stopped = sweep(searched, executor, 8)
    bad = [trial for trial in found if trial.raw["net.hidden"] == 33]
    assert stopped is None and len(bad) >= 2 and {trial.state for trial in bad} == {PRUNED}
    assert len(executor.cancelled) == 1 and len(executor.epochs) == 2


def test_several_at_a_time(make: Any) -> None:
    searched = make()
    executor = Epochs(slots=4)
    found, _ = sweep(searched, executor, 24)
    assert executor.most == 4 and len(found) == 24
    assert {trial.state for trial in found} == {FINISHED, PRUNED}


def test_optuna_itself_sees_the_curves(make: Any) -> None:
    searched = make()
    found, _ = sweep(searched, Epochs(), 10)
    backend = optuna.storages.journal.JournalFileBackend(str(searched.folder / JOURNAL))
    study = optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
    for theirs, trial in zip(study.trials, found, strict=True):
        (recipe,) = searched.recipes(trial.raw)
        assert theirs.state.name == {PRUNED: "PRUNED", FINISHED: "COMPLETE"}[trial.state]
        curve = {epochs: pytest.approx(rising(recipe, epochs)) for epochs in range(1, trial.epochs + 1)}
        assert theirs.intermediate_values == curve


def test_the_sampler_learns_from_pruned_trials(make: Any) -> None:
    searched = make()
    sweep(searched, Epochs(), WANTED)
    with Study.opened(searched) as study:
        inside = study.in_memory(failures=True).trials
        for theirs, trial in zip(inside, study.trials, strict=True):
            if trial.state == PRUNED:
                assert theirs.state.name == "PRUNED" and theirs.intermediate_values == {trial.epochs: trial.value}
        assert all(theirs.state.name == "COMPLETE" for theirs in study.in_memory().trials)


def test_the_page_lists_them(make: Any) -> None:
    searched = make()
    found, _ = sweep(searched, Epochs(), WANTED)
    pruned = [trial for trial in found if trial.state == PRUNED]
    with Study.opened(searched) as study:
        page = write_sweep_page(searched, study, None).read_text()
    assert f"{WANTED - len(pruned)} finished trials, {len(pruned)} pruned" in page
    assert "Pruned trials" in page and "Failed trials" not in page


def test_a_metric_without_curve_is_one_sentence_and_nothing_is_lost(make: Any) -> None:
    searched = make()
    with pytest.raises(
        LacunaError, match=r"search.pruner=median needs validation/accuracy after every epoch, and digi"
    ):
        sweep(searched, Epochs(metric="validation/loss"), 5)
    executor = Epochs()
    found, _ = sweep(make("search.pruner=null"), executor, 1)
    assert executor.epochs == {} and found[0].state == FINISHED


def test_an_executor_that_cannot_stop_one_run_is_refused(make: Any) -> None:
    with pytest.raises(
        LacunaError, match=r"search.pruner=median stops single runs, which the executor Analytic cannot"
    ):
        sweep(make(), Analytic(), 1)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"pruner": "best"}, "search.pruner=best must be median, hyperband or null"),
        ({"pruner": "median", "pruner_trials": 0}, "search.pruner_trials=0 must be a whole number"),
        ({"pruner": "hyperband", "pruner_epochs": 1.5}, "search.pruner_epochs=1.5 must be a whole number"),
    ],
)
def test_mistakes(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LacunaError, match=f"search=own: {sentence}"):
        Rule.of({"name": "own", **keys})


def test_an_own_search_needs_no_key_of_it() -> None:
    assert Rule.of({"name": "own"}) is None
    assert Rule.of({"name": "own", "pruner": "median"}) == Rule("median", 5, 1)


def test_no_number_is_no_point_of_a_curve(make: Any) -> None:
    """A run of which the metric is no number fails by itself."""

    def broken(recipe: Any, epochs: int) -> float:
        return math.nan if epochs == 2 else rising(recipe, epochs)

    found, _ = sweep(make(), Epochs(broken), 6)
    assert FAILED not in {trial.state for trial in found}
    assert "NaN" not in (make().folder / JOURNAL).read_text() and json.loads('{"a": NaN}')
