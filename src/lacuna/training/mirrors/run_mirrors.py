"""The mirrors of one run, together: what happens is told to each; one that fails is left out, with a sentence."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.history import HISTORY, read_history
from lacuna.runs.mirror_options import MirrorOptions
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.training.mirrors.base import DONE, FAILED, INTERRUPTED, Mirror, Row, RunFacts
from lacuna.training.mirrors.memory import Memory

FILES = {
    "model": ("recipe.json", "model.json", "model.safetensors"),
    "results": ("recipe.json", "environment.json", "metrics.json", "metrics.jsonl", "pictures/*"),
}
"""Kind of artifact -> what it holds of the run's folder."""


def kinds() -> dict[str, type[Mirror]]:
    """The mirrors by name. Their packages are imported once a mirror is made."""
    from lacuna.training.mirrors.lightning_loggers import CSVMirror, MLflowMirror, TensorBoardMirror
    from lacuna.training.mirrors.wandb_run import WandbMirror

    return {kind.name: kind for kind in (WandbMirror, TensorBoardMirror, CSVMirror, MLflowMirror)}


class RunMirrors:
    """The open mirrors of one run.

    Args:
        facts: about the run.
        options: of the mirrors.
        names: of those to open.
    """

    def __init__(self, facts: RunFacts, options: MirrorOptions, names: Sequence[str]) -> None:
        self.options, self.folder = options, RunFolder(facts.folder)
        self.memory = Memory(facts.folder)
        self.extras: dict[str, float] = {}
        """What was measured beside the next line of the history and is not in it: times, rates."""
        self._step, self._in_history = 0, set[str]()
        self._open: dict[str, Mirror] = {}
        self._concluded: set[str] = set()
        for name in names:
            self._guarded(name, lambda name=name: self._start(name, facts))  # type: ignore[misc]

    @property
    def any(self) -> bool:
        """Whether one is open."""
        return bool(self._open)

    def catch_up(self) -> None:
        """Tell what is on disk: all of it, or what an earlier attempt has not told."""
        for number, row in enumerate(read_history(self.folder.path / HISTORY) if self.any else []):
            self.line(row, number)

    def line(self, row: Row, number: int) -> None:
        """Tell line ``number`` (from 0) of the history, with the extras, unless an earlier attempt has told it."""
        extras, self.extras = self.extras, {}
        self._step = int(row.get("step", self._step))
        values = {name: value for name, value in row.items() if name != "step" and not isinstance(value, str)}
        self._in_history |= set(values)
        for name in list(self._open):
            entry = self.memory[name]
            if number >= entry.get("lines", 0):
                self._tell(name, lambda mirror: mirror.log({**values, **extras}, self._step))
                entry["lines"] = number + 1
        if self._open:
            self.memory.save(now=False)

    def measured(self, values: Row, step: int) -> None:
        """Tell what was measured between two lines of the history."""
        self._tell_all(lambda mirror: mirror.log(values, step))

    def show(self, pictures: Mapping[str, Any], step: int) -> None:
        """Tell pictures."""
        self._tell_all(lambda mirror: mirror.show(pictures, step))

    def conclude(self) -> None:
        """Tell what a finished run has: pictures, final metrics, files."""
        if not self.any:
            return
        pictures = {path.stem: path for path in sorted(self.folder.pictures.glob("*.png"))}
        metrics = {k: float(v) for k, v in self.folder.metrics["metrics"].items() if k not in self._in_history}
        for name in list(self._open):
            self._tell(name, lambda mirror: mirror.show(pictures, self._step))
            self._tell(name, lambda mirror: mirror.conclude(metrics, self._step))
            for kind in self.options.artifacts:
                files = self._files(kind)
                self._tell(name, lambda mirror, kind=kind, files=files: mirror.store(kind, files))  # type: ignore[misc]
            if name in self._open:
                self._concluded.add(name)

    def close(self, exit_code: int) -> None:
        """End all. May be called twice."""
        for name in list(self._open):
            self._tell(name, lambda mirror: mirror.close(exit_code))
            if name in self._open and name in self._concluded and exit_code == DONE:
                self.memory[name]["finished"] = True
            self._open.pop(name, None)
            self.memory.save()

    def _start(self, name: str, facts: RunFacts) -> None:
        entry = self.memory[name]
        mirror = kinds()[name](facts, self.options, dict(entry))
        if not mirror.shows:
            return
        if not mirror.keeps_lines:
            entry["lines"] = 0
        entry.update(mirror.remembered())
        self._open[name] = mirror

    def _files(self, kind: str) -> list[Path]:
        found = (path for pattern in FILES[kind] for path in sorted(self.folder.path.glob(pattern)))
        return [path for path in found if path.is_file()]

    def _tell_all(self, action: Callable[[Mirror], None]) -> None:
        for name in list(self._open):
            self._tell(name, action)

    def _tell(self, name: str, action: Callable[[Mirror], None]) -> None:
        mirror = self._open.get(name)
        if mirror is not None:
            self._guarded(name, lambda: action(mirror))

    def _guarded(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except LacunaError:  # a package that is missing, for example
            raise
        except Exception as error:
            mirror = self._open.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            print(
                f"logger={name} failed ({reason[:300]}): the run goes on without it; when it is finished, the same "
                "command shows it there.",
                file=sys.stderr,
                flush=True,
            )
            if mirror is not None:
                with contextlib.suppress(Exception):
                    mirror.close(FAILED)


@contextlib.contextmanager
def mirrored(recipe: Recipe, settings: Settings, *, here: bool = True) -> Iterator[RunMirrors]:
    """The mirrors of a run that is done inside; they learn how it ends.

    Args:
        recipe: of the run.
        settings: with the mirrors.
        here: whether this process mirrors; of several ranks only the first does.
    """
    names = settings.mirrors.names if here else ()
    mirrors = RunMirrors(RunFacts.of(recipe, settings), settings.mirrors, names)
    exit_code = FAILED
    try:
        yield mirrors
        exit_code = DONE
    except KeyboardInterrupt:
        exit_code = INTERRUPTED
        raise
    finally:
        mirrors.close(exit_code)
