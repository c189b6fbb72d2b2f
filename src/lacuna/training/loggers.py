"""Loggers of a run's metrics: always JSON lines on disk, and Weights & Biases where it is asked for."""

from __future__ import annotations

import json
import math
import netrc
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger

from lacuna.errors import LacunaError
from lacuna.files import disk_errors, write_text

HISTORY = "metrics.jsonl"


class DiskLogger(Logger):
    """Appends JSON lines to ``folder/metrics.jsonl``: ``{"step": 12, "epoch": 0, "loss": 0.3}``.

    Lines have no time stamps, so the history of a resumed run equals that of an uninterrupted one byte by byte. Values
    that are not finite are the strings ``"nan"``, ``"inf"`` and ``"-inf"``; :func:`read_history` reads them as numbers.
    """

    def __init__(self, folder: Path | str) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.path = self.folder / HISTORY
        lines = _whole_lines(self.path)
        self.lines = len(lines)
        self._inherited = len(lines)
        if self.path.exists() and self.path.stat().st_size != sum(len(line.encode()) + 1 for line in lines):
            # a process killed while it wrote leaves half a line
            self._rewrite(lines)

    @property
    def name(self) -> str:
        """Lightning's name for the experiment."""
        return self.folder.name

    @property
    def version(self) -> str:
        """Lightning's name for the attempt; there is only one."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder for files of this logger."""
        return str(self.folder)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line, written when this returns."""
        row: dict[str, Any] = {} if step is None else {"step": int(step)}
        row |= {key: _plain(value) for key, value in metrics.items()}
        with disk_errors(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
        self.lines += 1

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration is stored in ``recipe.json``."""

    @rank_zero_only
    def truncate(self, lines: int) -> None:
        """Keep the first ``lines`` lines."""
        if lines < self.lines:
            self._rewrite(_whole_lines(self.path)[:lines])
        self._inherited = 0

    @rank_zero_only
    def drop_inherited(self) -> None:
        """Drop the lines from before this logger: those of an attempt that left no checkpoint."""
        if self._inherited:
            self._rewrite(_whole_lines(self.path)[self._inherited :])
        self._inherited = 0

    def close(self, exit_code: int = 0) -> None:
        """Do nothing: the file is not kept open."""

    def _rewrite(self, lines: list[str]) -> None:
        write_text(self.path, "".join(line + "\n" for line in lines))
        self.lines = len(lines)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.jsonl``; an unfinished last line is left out.

    Raises:
        LacunaError: a line in the middle is damaged.
    """
    rows = []
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise LacunaError(f"{path} is damaged in line {number}: delete it and run the command again.") from error
        rows.append({key: float(value) if value in ("nan", "inf", "-inf") else value for key, value in row.items()})
    return rows


def _whole_lines(path: Path) -> list[str]:
    """Lines that end in a line break, without it."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        return [line[:-1] for line in file if line.endswith("\n")]


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else str(number)


class WandbRunLogger(WandbLogger):
    """Lightning's W&B logger, which stays open over several fits and is closed by its owner with an exit code."""

    @rank_zero_only
    def log_images(self, name: str, images: Any) -> None:
        """Log one picture or a sequence of them (PIL image or path to a file)."""
        import wandb

        several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
        pictures = [wandb.Image(str(image) if isinstance(image, Path) else image) for image in several]
        self.experiment.log({name: pictures})

    @rank_zero_only
    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Set the final metrics, which W&B's dashboard compares."""
        self.experiment.summary.update(dict(metrics))

    def finalize(self, status: str) -> None:
        """Do nothing at the end of a fit: the run goes on."""

    def close(self, exit_code: int = 0) -> None:
        """Finish the W&B run; ``exit_code != 0`` shows it as failed. May be called twice."""
        run, self._experiment = self._experiment, None
        if run is not None and hasattr(run, "finish"):
            run.finish(exit_code=exit_code)


def wandb_logger(
    run_id: str,
    name: str,
    group: str,
    tags: Sequence[str],
    config: dict[str, Any],
    folder: Path | str,
    offline: bool | None = None,
    project: str = "lacuna",
) -> WandbRunLogger:
    """The W&B logger of a run; call ``close(exit_code)`` in a ``finally``.

    Args:
        run_id: identity of the recipe; a resumed run keeps it.
        name: of the run.
        group: of W&B, for repetitions with other seeds.
        tags: of W&B.
        config: the resolved recipe as plain values.
        folder: the run folder; W&B's files go to ``folder/wandb``.
        offline: None: offline where there is no key (neither WANDB_API_KEY nor an entry in netrc).
        project: W&B's project.

    Raises:
        LacunaError: wandb is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise LacunaError("logger=wandb needs the package wandb: pip install wandb, or use logger=disk.") from error
    offline = not has_key() if offline is None else offline
    if offline and "WANDB_MODE" not in os.environ and getattr(rank_zero_only, "rank", 0) == 0:
        command = f"wandb sync {Path(folder) / 'wandb'}/offline-run-*"
        print(f"There is no W&B key: logging offline; `{command}` uploads it later.", file=sys.stderr)
    Path(folder).mkdir(parents=True, exist_ok=True)
    logger = WandbRunLogger(
        name=name,
        save_dir=str(folder),
        version=run_id,
        offline=offline,
        project=project,
        log_model=False,
        group=group,
        tags=list(tags),
        config=config,
        resume=None if offline else "allow",
        settings=wandb.Settings(silent=True, console="off"),
    )
    # Lightning passes an argument that wandb no longer has, with a warning at every start
    logger._wandb_init.pop("anonymous", None)
    return logger


def has_key() -> bool:
    """Whether W&B could log in: a key in the environment or an entry in the user's netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0].split(":")[0]
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
