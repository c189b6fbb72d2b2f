"""A run of Weights & Biases: where it is logged, its group and definitions, and the mirror of a training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lacuna.runs.mirror_options import MirrorOptions
from lacuna.training.mirrors.base import Entry, Mirror, Row, RunFacts
from lacuna.training.mirrors.directions import direction
from lacuna.training.mirrors.wandb_access import chosen_mode, package, tell_once

INIT_SECONDS = 20.0
"""For the server's answer when a run starts; without one the run is logged offline."""
FINISH_SECONDS = 120.0
"""For the upload at the end of a run; what is left can be uploaded with ``wandb sync``."""
TAG, NAME = 64, 128
"""Longest tag, and longest name of a run or group, in characters."""


def start_run(facts: RunFacts, options: MirrorOptions, run_id: str | None = None) -> Any:
    """Start a run of W&B, or resume it; None where WANDB_MODE disables W&B.

    Offline where there is no key or no network; a line on standard error says so.

    Args:
        facts: group, job type, tags and config of the run; its files go to ``folder/wandb``.
        options: project and mode.
        run_id: of W&B; by default the identity of the recipe, so that a resumed run continues its own.
    """
    wandb = package()
    mode, reason = chosen_mode(options.offline)
    if mode == "disabled":
        return None
    facts.folder.mkdir(parents=True, exist_ok=True)

    def init(mode: str) -> Any:
        if mode == "offline":  # nothing is sent, so nothing waits for a server that is not there
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        return wandb.init(
            id=run_id or facts.identity,
            name=facts.name[:NAME],
            group=facts.group[:NAME],
            job_type=facts.job_type,
            tags=[tag[:TAG] for tag in facts.tags],
            config=dict(facts.config),
            project=options.project,
            dir=str(facts.folder),
            mode=mode,
            resume="allow" if mode == "online" else None,
            reinit="create_new",  # a run of the user's own in this process stays as it is
            settings=wandb.Settings(
                silent=True, console="wrap", init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
            ),
        )

    if mode == "online":
        try:
            run = init(mode)
            tell_once(f"W&B: {run.url}")
            return run
        except (wandb.errors.Error, OSError) as error:
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            wandb.teardown()  # otherwise the identity stays in use
    if reason:
        files = facts.output / "*" / "*" / "wandb" / "offline-run-*"
        tell_once(f"W&B: {reason}: logging offline; `wandb sync {files}` uploads it later.")
    return init("offline")


class WandbMirror(Mirror):
    """A run of W&B. The x axis of all metrics is ``step``, the number of the training step."""

    name = "wandb"

    def __init__(self, facts: RunFacts, options: MirrorOptions, entry: Entry) -> None:
        self.run, self.facts = start_run(facts, options), facts
        self._defined: set[str] = set()
        self.shows = self.run is not None
        if self.run is None:
            return
        self.offline = bool(self.run.settings._offline)
        # the file of an offline run begins anew with each attempt, and replaces the one before
        self.keeps_lines = not self.offline and not entry.get("offline", False)
        before = Path(str(entry.get("files") or ""))
        if self.offline and before.name and before.is_dir():
            before.rename(before.with_name(f"superseded-{before.name}"))
        self.run.define_metric("step", hidden=True)
        self.run.define_metric("*", step_metric="step", step_sync=True)

    def log(self, row: Row, step: int) -> None:
        """Show a line of the history; its summary keeps the best and the last value."""
        for name in row:
            self._define(name)
        self.run.log({**row, "step": step})

    def show(self, pictures: Mapping[str, Any], step: int) -> None:
        """Show pictures."""
        if not pictures:
            return
        image = package().Image
        shown = {name: [image(str(p) if isinstance(p, Path) else p)] for name, p in pictures.items()}
        self.run.log({**shown, "step": step})

    def conclude(self, metrics: Mapping[str, float], step: int) -> None:
        """Put the final metrics into the summary, which dashboards compare."""
        self.run.summary.update(dict(metrics))

    def store(self, kind: str, files: Sequence[Path]) -> None:
        """Log an artifact ``NAME-kind``."""
        artifact = package().Artifact(f"{self.facts.name[: NAME - 10]}-{kind}", type=kind)
        for path in files:
            artifact.add_file(str(path), name=path.relative_to(self.facts.folder).as_posix())
        self.run.log_artifact(artifact)

    def remembered(self) -> Entry:
        """Whether it is offline, and where."""
        return {"offline": True, "files": str(self.run.settings.sync_dir)} if self.offline else {"offline": False}

    def close(self, exit_code: int) -> None:
        """Finish the run; an exit code other than 0 shows it as failed."""
        self.run.finish(exit_code=exit_code)

    def _define(self, name: str) -> None:
        best = direction(name)
        # an agent of a sweep reads its metric as a plain number from the summary
        if best is None or name in self._defined or "WANDB_SWEEP_ID" in os.environ:
            return
        self._defined.add(name)
        self.run.define_metric(name, step_metric="step", summary=f"{best},last")
