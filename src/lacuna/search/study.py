"""The trials of a sweep on disk, and the proposal of new ones.

Trials are recorded in Optuna's journal, an append-only file. A trial is one line when it starts and one when it ends,
so a kill never leaves an incomplete trial. New trials are proposed by a sampler that sees, in memory, exactly the
trials in the present space. Its seed is the sweep's seed plus the number of trials: otherwise a resumed study would
propose its first points again. So an interrupted sweep with one run at a time ends with the same trials as an
uninterrupted one.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.extras import require
from lacuna.program import command_text
from lacuna.search.problem import Problem

RUNNING, FINISHED, FAILED, PRUNED = "running", "finished", "failed", "pruned"
JOURNAL, NAME = "optuna.log", "sweep"


@dataclass(frozen=True)
class Trial:
    """A trial.

    Args:
        number: index from 0.
        raw: proposed values by key, as Optuna has them.
        state: running, finished, failed, or pruned (stopped because others did better).
        value: mean of the metric over the seeds, once finished; of a pruned one the last value of its first run.
        error: why it failed.
        seconds: from its start to its end.
    """

    number: int
    raw: dict[str, Any]
    state: str
    value: float | None = None
    error: str | None = None
    seconds: float | None = None
    epochs: int = 0
    """Epochs of its first run that were recorded, for pruning."""


class Study:
    """The trials of one sweep; open it with :meth:`opened`.

    Args:
        problem: the search.
        path: of the journal.
    """

    def __init__(self, problem: Problem, path: Path) -> None:
        self.problem, self.path = problem, path
        self._optuna = _quiet_optuna()
        backend = self._optuna.storages.journal.JournalFileBackend(str(path), lock_obj=_NoLock())
        try:
            self._storage = self._optuna.storages.JournalStorage(backend)
            self._study = self._load_or_create()
        except (ValueError, KeyError, TypeError) as error:
            raise LacunaError(
                f"{path} is damaged: delete it and run the same command again (finished runs are kept)."
            ) from error
        self._distributions = {parameter.key: parameter.distribution() for parameter in problem.parameters}

    @classmethod
    @contextlib.contextmanager
    def opened(cls, problem: Problem) -> Iterator[Study]:
        """Open the study in a sweep's folder, locked for this process.

        Raises:
            LacunaError: another process has it open, or its journal is damaged.
        """
        folder = problem.folder
        with files.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise LacunaError(
                    f"Another sweep is running in {folder}: wait for it, or stop it first"
                    " (executor=ray does several runs at a time)."
                ) from error
        try:
            _drop_incomplete_line(folder / JOURNAL)
            yield cls(problem, folder / JOURNAL)
        finally:
            lock.release()

    # ------------------------------------------------------------------ trials

    @property
    def trials(self) -> list[Trial]:
        """All trials in the present space, in their order."""
        return [trial for trial in map(self._trial, self._study.get_trials(deepcopy=False)) if self._in_space(trial)]

    def of_state(self, state: str) -> list[Trial]:
        """The trials that are running (here, or left by a killed process), finished or failed."""
        return [trial for trial in self.trials if trial.state == state]

    @property
    def ended(self) -> int:
        """The number of finished and pruned trials."""
        return sum(trial.state in (FINISHED, PRUNED) for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The best finished trial; None if there is none."""
        return next(iter(self.ranked()), None)

    def ranked(self) -> list[Trial]:
        """Finished trials, the best one first; of equal ones the earlier first."""
        sign = -1 if self.problem.direction == "maximize" else 1
        return sorted(self.of_state(FINISHED), key=lambda trial: (sign * float(trial.value or 0), trial.number))

    # ------------------------------------------------------------------ ask and tell

    def ask(self) -> Trial:
        """A new trial. The first one is the unchanged configuration, if the space contains it; others are proposals."""
        start = self.problem.start
        raw = start if start is not None and not self.trials else self._proposal()
        state = self._optuna.trial.TrialState.RUNNING
        self._study.add_trial(
            self._optuna.trial.create_trial(state=state, params=raw, distributions=self._distributions)
        )
        return self._trial(self._study.get_trials(deepcopy=False)[-1])

    def tell(self, trial: Trial, value: float) -> None:
        """Record the value of a trial."""
        self._study.tell(trial.number, value)

    def fail(self, trial: Trial, reason: str) -> None:
        """Record the failure of a trial."""
        self._storage.set_trial_user_attr(self._frozen(trial)._trial_id, "error", reason)
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)

    def report(self, trial: Trial, epochs: int, value: float, pruner: Any = None) -> bool:
        """Record the metric of a running trial after some epochs; whether Optuna's pruner, if given, would stop it."""
        self._storage.set_trial_intermediate_value(self._frozen(trial)._trial_id, epochs, value)
        return pruner is not None and bool(pruner.prune(self._study, self._frozen(trial)))

    def reported(self, trial: Trial) -> int:
        """The last number of epochs that was reported for a trial; 0: none."""
        return int(self._frozen(trial).last_step or 0)

    def prune(self, trial: Trial) -> Trial:
        """Record that a trial was stopped because others did better; the trial with its last value."""
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.PRUNED)
        return self._trial(self._frozen(trial))

    # ------------------------------------------------------------------ internal

    def _frozen(self, trial: Trial) -> Any:
        (found,) = (found for found in self._study.get_trials(deepcopy=False) if found.number == trial.number)
        return found

    def in_memory(self, sampler: Any = None, *, failures: bool = False) -> Any:
        """An Optuna study in memory with the trials in the present space.

        Args:
            sampler: None: Optuna's default.
            failures: whether to include failed trials, as worse than all others, and pruned ones.
        """
        states = self._optuna.trial.TrialState
        known = {RUNNING: states.RUNNING, FINISHED: states.COMPLETE}
        if failures:
            known |= {FAILED: states.PRUNED, PRUNED: states.PRUNED}
        study = self._optuna.create_study(direction=self.problem.direction, sampler=sampler)
        for trial in self.trials:
            if trial.state in known:
                values = {trial.epochs: trial.value} if trial.state == PRUNED and trial.epochs else None
                frozen = self._optuna.trial.create_trial(
                    state=known[trial.state],
                    value=trial.value,
                    params=trial.raw,
                    distributions=self._distributions,
                    intermediate_values=values,
                )
                study.add_trial(frozen)
        return study

    def _proposal(self) -> dict[str, Any]:
        seed = self.problem.config["seed"] + len(self._study.get_trials(deepcopy=False))
        with warnings.catch_warnings():  # older versions of Optuna call two of these experimental
            warnings.simplefilter("ignore")
            # running trials count as bad, so that trials proposed at the same time differ
            sampler = self._optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        raw: dict[str, Any] = self.in_memory(sampler, failures=True).ask(self._distributions).params
        return raw

    def _load_or_create(self) -> Any:
        # load_if_exists=True would append a line to the journal each time
        if any(study.study_name == NAME for study in self._storage.get_all_studies()):
            return self._optuna.load_study(study_name=NAME, storage=self._storage)
        return self._optuna.create_study(storage=self._storage, study_name=NAME, direction=self.problem.direction)

    def _trial(self, frozen: Any) -> Trial:
        states = self._optuna.trial.TrialState
        known = {states.COMPLETE: FINISHED, states.RUNNING: RUNNING, states.WAITING: RUNNING, states.PRUNED: PRUNED}
        state, epochs = known.get(frozen.state, FAILED), int(frozen.last_step or 0)
        seconds = frozen.duration.total_seconds() if frozen.duration is not None else None
        value = frozen.value if state == FINISHED else frozen.intermediate_values.get(epochs)
        value = None if state in (RUNNING, FAILED) else value
        error = frozen.user_attrs.get("error")
        return Trial(frozen.number, dict(frozen.params), state, value, error, seconds, epochs)

    def _in_space(self, trial: Trial) -> bool:
        space = {parameter.key: parameter for parameter in self.problem.parameters}
        return trial.raw.keys() == space.keys() and all(space[key].contains(raw) for key, raw in trial.raw.items())


class _NoLock:
    """A lock for Optuna's file that does nothing: the whole folder is locked already, for the life of this process."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _quiet_optuna() -> Any:
    optuna = require("optuna", "sweep", command_text("sweep"))
    importlib.import_module("optuna.storages.journal")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _drop_incomplete_line(path: Path) -> None:
    """Remove an incomplete line at the end of the journal, left by a kill. Optuna cannot read it."""
    if not path.exists():
        return
    with files.disk_errors(path), path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
