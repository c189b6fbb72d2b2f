"""A sweep ends with the same trials whatever happens to it, trains nothing twice, and loses nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.search.problem import Problem
from lacuna.search.study import FAILED, FINISHED, JOURNAL, RUNNING, Study
from tests.search.standin import Analytic, Killed, bowl, problem, sweep, trials

WANTED = 14
"""More than the ten trials that Optuna's sampler draws blindly."""


@pytest.fixture
def make(digits_root: Path, tmp_path: Path) -> Any:
    def made(*words: str, output: str = "out") -> Problem:
        return problem(digits_root, tmp_path / output, "experiment=digits_zero", *words)

    return made


@pytest.fixture(scope="module")
def whole(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The trials of a sweep to which nothing happened."""
    searched = problem(digits_root, tmp_path_factory.mktemp("whole"), "experiment=digits_zero")
    executor = Analytic()
    done, stopped = sweep(searched, executor, WANTED)
    assert stopped is None and executor.closed
    assert len(executor.trained) == WANTED
    assert [trial.value for trial in done] == [bowl(searched.recipes(trial.raw)[0]) for trial in done]
    return summary(done)


def summary(found: Any) -> list[tuple[Any, ...]]:
    return [(trial.number, tuple(trial.raw.items()), trial.state, trial.value) for trial in found]


def test_it_begins_with_the_configuration_and_finds_better(whole: list[tuple[Any, ...]], make: Any) -> None:
    assert dict(whole[0][1]) == make().start
    assert max(value for *_, value in whole) > whole[0][3]
    assert len({raw for _, raw, *_ in whole}) == WANTED


def test_a_complete_sweep_does_nothing_and_a_larger_one_goes_on(make: Any, whole: list[tuple[Any, ...]]) -> None:
    searched = make()
    sweep(searched, Analytic(), 5)
    idle = Analytic()
    again, _ = sweep(searched, idle, 5)
    assert idle.trained == [] and summary(again) == whole[:5]
    more = Analytic()
    found, _ = sweep(searched, more, WANTED)
    assert len(more.trained) == WANTED - 5 and summary(found) == whole
    fewer, _ = sweep(searched, idle, 2)
    assert idle.trained == [] and summary(fewer) == whole


@pytest.mark.parametrize(
    "words", [{"kill_before": k} for k in (0, 3, 12)] + [{"kill_after": k} for k in (0, 3, 12)], ids=str
)
def test_killed_and_resumed_is_as_if_nothing_had_happened(
    words: dict[str, int], make: Any, whole: list[tuple[Any, ...]]
) -> None:
    searched = make()
    first = Analytic(**words)
    with pytest.raises(Killed):
        sweep(searched, first, WANTED)
    assert first.closed
    left = [trial for trial in trials(searched) if trial.state == RUNNING]
    assert len(left) == 1
    second = Analytic()
    found, _ = sweep(searched, second, WANTED)
    assert summary(found) == whole
    # a run whose result was stored but not told is not trained again
    assert not {r.identity for r in first.trained} & {r.identity for r in second.trained}
    assert len(first.trained) + len(second.trained) == WANTED


def test_the_journal_may_be_cut_anywhere(make: Any, whole: list[tuple[Any, ...]]) -> None:
    searched = make()
    sweep(searched, Analytic(), 3)
    journal = searched.folder / JOURNAL
    content = journal.read_bytes()
    ends = [i for i, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) >= 1 + 2 * 3  # the study; each trial's beginning and end
    cuts = {
        0,
        1,
        len(content),
        *ends,
        *(end + 1 for end in ends),
        *(end + 20 for end in ends),
        *(end - 1 for end in ends),
    }
    for cut in sorted(cuts):
        journal.write_bytes(content[:cut])
        executor = Analytic()
        found, _ = sweep(searched, executor, 3)
        # the runs are there: nothing is trained, and every trial is found again
        assert summary(found) == whole[:3] and executor.trained == []


def test_a_journal_damaged_in_the_middle_is_one_sentence(make: Any) -> None:
    searched = make()
    sweep(searched, Analytic(), 2)
    journal = searched.folder / JOURNAL
    journal.write_bytes(journal.read_bytes().replace(b'"op_code":4', b'"op_co', 1))
    with pytest.raises(LacunaError, match=r"optuna.log is damaged: delete it"):
        trials(searched)


def test_one_process_at_a_time(make: Any) -> None:
    searched = make()
    with Study.opened(searched), pytest.raises(LacunaError, match=r"Another sweep is running in .*executor=ray"):
        trials(searched)
    assert trials(searched) == []


@pytest.mark.parametrize("newest_first", [False, True])
def test_places_are_kept_full_and_no_two_trials_at_a_time_are_alike(make: Any, newest_first: bool) -> None:
    searched = make()
    executor = Analytic(slots=4, newest_first=newest_first)
    found, _ = sweep(searched, executor, 30)
    assert executor.most == 4 and len(executor.trained) == 30
    assert [trial.state for trial in found] == [FINISHED] * 30
    assert len({tuple(trial.raw.items()) for trial in found}) == 30


def test_the_sampler_knows_what_runs(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a constant liar what runs counts as bad until it is known: proposals at a time lie further apart."""
    known = Study.trials.fget
    assert known is not None

    def distance(seed: int, running: bool) -> float:
        searched = make(f"seed={seed}", output=f"{seed}-{running}")
        sweep(searched, Analytic(), 20)
        if not running:
            unaware = property(lambda study: [trial for trial in known(study) if trial.state != RUNNING])
            monkeypatch.setattr(Study, "trials", unaware)
        with Study.opened(searched) as study:
            asked = [study.ask().raw for _ in range(8)]
        monkeypatch.undo()
        points = [((math.log10(raw["net.training.lr"]) + 4) / 2, raw["net.dropout"] / 0.5) for raw in asked]
        return sum(min(math.dist(p, q) for q in points if q is not p) for p in points) / len(points)

    seeds = (0, 2, 4)
    assert sum(distance(seed, True) for seed in seeds) > 1.2 * sum(distance(seed, False) for seed in seeds)


def test_failed_trials_stop_nobody_and_their_neighbourhood_is_avoided(make: Any) -> None:
    def diverges(recipe: Recipe) -> float:
        net = recipe.config["net"]
        if net["training"]["lr"] > 1e-3:  # half of the space
            raise LacunaError("The loss became nan in epoch 0: lower net.training.lr.")
        return 1.0 - abs(net["dropout"] - 0.2)

    found, stopped = sweep(make("seed=1"), Analytic(diverges), 25)
    assert stopped is None
    failed = [trial for trial in found if trial.state == FAILED]
    assert sum(trial.state == FINISHED for trial in found) == 25
    assert all("lower net.training.lr" in str(trial.error) for trial in failed)
    assert all((trial.raw["net.training.lr"] > 1e-3) == (trial.state == FAILED) for trial in found)
    # half of them at first; hardly any once the sampler has seen it
    blind, informed = found[:12], found[12:]
    assert sum(trial.state == FAILED for trial in blind) >= 4
    assert sum(trial.state == FAILED for trial in informed) <= len(informed) / 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_is_a_failed_trial(make: Any, value: float) -> None:
    found, stopped = sweep(make(), Analytic(lambda recipe: value), 3)
    assert stopped == "5 trials in a row failed"
    assert [trial.state for trial in found] == [FAILED] * 5
    assert str(found[0].error) == f"validation/accuracy is {value}."


def test_five_failures_in_a_row_end_it_and_the_next_command_tries_others(make: Any) -> None:
    def broken(recipe: Recipe) -> float:
        raise LacunaError("the disk is full.")

    searched = make()
    found, stopped = sweep(searched, Analytic(broken), 20)
    assert stopped == "5 trials in a row failed" and len(found) == 5
    found, stopped = sweep(searched, Analytic(), 6)
    assert stopped is None
    assert [trial.state for trial in found] == [FAILED] * 5 + [FINISHED] * 6
    assert len({tuple(trial.raw.items()) for trial in found}) == 11


def test_what_all_need_is_trained_once_and_first(digits_root: Path, tmp_path: Path) -> None:
    searched = problem(digits_root, tmp_path, "experiment=digits_misconv", "seeds=2")
    executor = Analytic(slots=3)
    found, _ = sweep(searched, executor, 4)
    tasks = [recipe.task for recipe in executor.trained]
    assert tasks.count("density") == 2 and tasks.count("classify") == 8
    assert executor.most == 3 and all(trial.state == FINISHED for trial in found)


def test_if_what_all_need_fails_the_trials_are_kept_for_the_next_command(digits_root: Path, tmp_path: Path) -> None:
    searched = problem(digits_root, tmp_path, "experiment=digits_misconv")
    found, stopped = sweep(searched, Analytic(slots=3, needs_fail=True), 4)
    assert stopped == "digits · square 25 % · DMFA · budget smoke · seed 0: the density broke."
    assert {trial.state for trial in found} == {RUNNING}
    again, stopped = sweep(searched, Analytic(slots=3), 4)
    assert stopped is None and [trial.state for trial in again] == [FINISHED] * 4
    assert [trial.raw for trial in again[: len(found)]] == [trial.raw for trial in found]


def test_an_interrupted_run_is_taken_up_by_the_next_command(make: Any, whole: list[tuple[Any, ...]]) -> None:
    searched = make()
    found, stopped = sweep(searched, Analytic(interrupt=2), WANTED)
    assert stopped is not None and stopped.startswith(
        "digits · square 25 % · zero imputation · budget smoke · seed 0: interrupted"
    )
    assert [trial.state for trial in found] == [FINISHED, FINISHED, RUNNING]
    found, _ = sweep(searched, Analytic(), WANTED)
    assert summary(found) == whole


def test_a_trial_of_several_seeds_is_their_mean(make: Any) -> None:
    searched = make("seeds=3", "seed=5")
    executor = Analytic(slots=2)
    found, _ = sweep(searched, executor, 4)
    assert len(executor.trained) == 12 and {r.config["seed"] for r in executor.trained} == {5, 6, 7}
    for trial in found:
        assert trial.value == pytest.approx(bowl(searched.recipes(trial.raw)[1]))


def test_one_bad_seed_fails_the_trial(make: Any) -> None:
    def unlucky(recipe: Recipe) -> float:
        return math.nan if recipe.config["seed"] == 1 else bowl(recipe)

    found, stopped = sweep(make("seeds=2"), Analytic(unlucky), 2)
    assert stopped is not None and {trial.state for trial in found} == {FAILED}


def test_another_sweep_reuses_finished_runs(make: Any) -> None:
    one = make("search.metric=validation/accuracy")
    sweep(one, Analytic(), 3)
    other = make("search.direction=minimize")
    assert other.name != one.name
    executor = Analytic()
    found, _ = sweep(other, executor, 1)
    assert executor.trained == [] and len(found) == 1  # the configuration as it stands was trained before


def test_a_space_may_grow_and_shrink(make: Any) -> None:
    small = make("search.parameters={net.training.lr: {low: 5.0e-4, high: 2.0e-3}}")
    large = make("search.parameters={net.training.lr: {low: 1.0e-5, high: 1.0e-1}}")
    assert small.name == large.name
    sweep(small, Analytic(), 4)
    found, _ = sweep(large, Analytic(), 24)
    assert len(found) == 24
    inside = [trial for trial in found if 5e-4 <= trial.raw["net.training.lr"] <= 2e-3]
    assert 4 <= len(inside) < 24
    # only what lies in the present space counts
    executor = Analytic()
    found, _ = sweep(small, executor, len(inside) + 2)
    assert len(executor.trained) == 2 and len(found) == len(inside) + 2
    assert all(5e-4 <= trial.raw["net.training.lr"] <= 2e-3 for trial in found)
    assert len(trials(large)) == 26


def test_a_metric_that_no_run_has_ends_it_at_once_and_nothing_is_lost(make: Any) -> None:
    wrong = make("search.metric=validation/accurcy")
    executor = Analytic()
    with pytest.raises(LacunaError, match=r"validation/accurcy is not a metric of .* validation/accuracy"):
        sweep(wrong, executor, 5)
    assert len(executor.trained) == 1
    again = Analytic()
    found, _ = sweep(make(), again, 1)
    assert again.trained == [] and found[0].state == FINISHED


def test_the_best_by_either_direction(make: Any) -> None:
    for direction, pick in (("maximize", max), ("minimize", min)):
        searched = make(f"search.direction={direction}")
        sweep(searched, Analytic(), 6)
        with Study.opened(searched) as study:
            values = [trial.value for trial in study.trials]
            assert study.best is not None and study.best.value == pick(values)
            assert [t.value for t in study.ranked()] == sorted(values, reverse=direction == "maximize")


def test_optuna_itself_reads_the_journal(make: Any) -> None:
    searched = make()
    found, _ = sweep(searched, Analytic(), 4)
    backend = optuna.storages.journal.JournalFileBackend(str(searched.folder / JOURNAL))
    study = optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
    assert study.best_value == max(trial.value for trial in found)
    assert [trial.params for trial in study.trials] == [trial.raw for trial in found]
