"""The trials of a sweep on disk, and what to try next.

Optuna's journal (a file, appended to) is the record; a trial is one line of it when it begins and one when it ends, so
no kill can leave half a trial behind. What to try next is asked of a sampler that sees, in memory, exactly the trials
that lie in the present space. Its seed is the sweep's plus the number of trials there are: a seeded sampler would
otherwise propose its first points again when a study is resumed. So a sweep that trains one run at a time and is
interrupted ends with the trials of one that was not.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.search.problem import Problem

RUNNING, FINISHED, FAILED = "running", "finished", "failed"
JOURNAL, NAME = "optuna.log", "sweep"


@dataclass(frozen=True)
class Trial:
    """One proposal.

    Args:
        number: from 0, in the order of asking.
        raw: proposed values by key, as Optuna knows them.
        state: running, finished or failed.
        value: the metric's mean over the seeds, once finished.
        error: why it failed.
        seconds: from asking to telling.
    """

    number: int
    raw: dict[str, Any]
    state: str
    value: float | None = None
    error: str | None = None
    seconds: float | None = None


class Study:
    """The trials of one sweep; make it with :meth:`opened`.

    Args:
        problem: what is searched.
        path: of the journal.
    """

    def __init__(self, problem: Problem, path: Path) -> None:
        self.problem, self.path = problem, path
        self._optuna = _quiet_optuna()
        backend = self._optuna.storages.journal.JournalFileBackend(str(path), lock_obj=_Ours())
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
        """The study in a sweep's folder, for this process alone.

        Raises:
            LacunaError: another process is at work in it, or its journal is damaged.
        """
        folder = problem.folder
        with files.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise LacunaError(
                    f"Another sweep.py is at work in {folder}: wait for it, or stop it first"
                    " (more runs at a time are executor=ray)."
                ) from error
        try:
            _drop_half_a_line(folder / JOURNAL)
            yield cls(problem, folder / JOURNAL)
        finally:
            lock.release()

    # ------------------------------------------------------------------ what there is

    @property
    def trials(self) -> list[Trial]:
        """Every trial that lies in the present space, the first one first."""
        return [trial for trial in map(self._trial, self._study.get_trials(deepcopy=False)) if self._inside(trial)]

    def of_state(self, state: str) -> list[Trial]:
        """Those running (here, or left by a process that died), finished or failed."""
        return [trial for trial in self.trials if trial.state == state]

    @property
    def best(self) -> Trial | None:
        """The best finished trial."""
        return next(iter(self.ranked()), None)

    def ranked(self) -> list[Trial]:
        """Finished trials, the best one first; of equals the earlier one."""
        sign = -1 if self.problem.direction == "maximize" else 1
        return sorted(self.of_state(FINISHED), key=lambda trial: (sign * float(trial.value or 0), trial.number))

    # ------------------------------------------------------------------ what happens

    def ask(self) -> Trial:
        """A new trial: the configuration as it stands if there was none before, otherwise what the sampler proposes."""
        start = self.problem.start
        raw = start if start is not None and not self.trials else self._proposal()
        state = self._optuna.trial.TrialState.RUNNING
        self._study.add_trial(
            self._optuna.trial.create_trial(state=state, params=raw, distributions=self._distributions)
        )
        return self._trial(self._study.get_trials(deepcopy=False)[-1])

    def tell(self, trial: Trial, value: float) -> None:
        """The trial is finished."""
        self._study.tell(trial.number, value)

    def fail(self, trial: Trial, reason: str) -> None:
        """The trial has no value."""
        (frozen,) = (found for found in self._study.get_trials(deepcopy=False) if found.number == trial.number)
        self._storage.set_trial_user_attr(frozen._trial_id, "error", reason)
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)

    # ------------------------------------------------------------------ inside

    def memory(self, sampler: Any = None, *, failures: bool = False) -> Any:
        """An Optuna study in memory of the trials in the present space, as if it had always been this one.

        Args:
            sampler: Optuna's default if None.
            failures: failed trials count as worse than any other; otherwise they are left out.
        """
        states = self._optuna.trial.TrialState
        known = {RUNNING: states.RUNNING, FINISHED: states.COMPLETE} | ({FAILED: states.PRUNED} if failures else {})
        study = self._optuna.create_study(direction=self.problem.direction, sampler=sampler)
        for trial in self.trials:
            if trial.state in known:
                made = self._optuna.trial.create_trial(
                    state=known[trial.state], value=trial.value, params=trial.raw, distributions=self._distributions
                )
                study.add_trial(made)
        return study

    def _proposal(self) -> dict[str, Any]:
        seed = self.problem.config["seed"] + len(self._study.get_trials(deepcopy=False))
        with warnings.catch_warnings():  # older Optunas call two of these experimental
            warnings.simplefilter("ignore")
            # what runs counts as bad until it is known, so that trials asked for at a time differ
            sampler = self._optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        raw: dict[str, Any] = self.memory(sampler, failures=True).ask(self._distributions).params
        return raw

    def _load_or_create(self) -> Any:
        # load_if_exists=True would write another line to the journal each time
        if any(study.study_name == NAME for study in self._storage.get_all_studies()):
            return self._optuna.load_study(study_name=NAME, storage=self._storage)
        return self._optuna.create_study(storage=self._storage, study_name=NAME, direction=self.problem.direction)

    def _trial(self, frozen: Any) -> Trial:
        states = self._optuna.trial.TrialState
        state = {states.COMPLETE: FINISHED, states.RUNNING: RUNNING, states.WAITING: RUNNING}.get(frozen.state, FAILED)
        seconds = frozen.duration.total_seconds() if frozen.duration is not None else None
        value = frozen.value if state == FINISHED else None
        return Trial(frozen.number, dict(frozen.params), state, value, frozen.user_attrs.get("error"), seconds)

    def _inside(self, trial: Trial) -> bool:
        space = {parameter.key: parameter for parameter in self.problem.parameters}
        return trial.raw.keys() == space.keys() and all(space[key].contains(raw) for key, raw in trial.raw.items())


class _Ours:
    """The lock that Optuna wants for its file: the whole folder is locked already, and that lock dies with us."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _quiet_optuna() -> Any:
    import optuna
    import optuna.storages.journal

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _drop_half_a_line(path: Path) -> None:
    """What a kill in the middle of a write left at the end of the journal; Optuna would stumble over it for ever."""
    if not path.exists():
        return
    with files.disk_errors(path), path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
