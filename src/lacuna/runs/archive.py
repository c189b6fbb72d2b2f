"""The archive ``results/``: one small JSON file per finished run, kept in the repository.

:mod:`lacuna.runs.archive_record` has the format. A run that is archived twice keeps its first metrics; other ones (of
another machine, say) are reported and not stored.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.config.key_values import read_key_values
from lacuna.errors import LacunaError
from lacuna.papers import CHANGED
from lacuna.program import command_text
from lacuna.runs.archive_record import ArchivedRun, archived_run, read_archived, record_of
from lacuna.runs.finished import StoredRun
from lacuna.runs.migration import migrate_record
from lacuna.runs.recipe import VERSION, WHOLE_BUDGETS
from lacuna.runs.results import finished_runs

FULL = (*WHOLE_BUDGETS, CHANGED)
"""Budget labels that are archived by default: the paper's settings; all data and training where no paper prints
settings; the same with a changed setting."""
DEFAULTS: Mapping[str, Any] = {"output": "outputs", "results": "results", "budgets": None, "input": None, "pack": None}
"""Keys of the command line, and their defaults."""


@dataclass
class ArchiveReport:
    """The outcome for each run.

    Args:
        written: names of runs that are new in the archive, or have new evaluations there.
        unchanged: names of runs that were archived before.
        conflicts: a sentence for each run whose metrics differ from the archived ones, which stay.
        refused: a sentence for each run that is damaged, or of another version.
        left_out: budget label -> number of runs that were not archived because of it.
    """

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def lines(self) -> list[str]:
        """Lines to print: one for every problem, then the counts."""
        budgets = (
            f"{count} at budget={name} (budgets=[{name}] archives them)" for name, count in self.left_out.items()
        )
        skipped = [f"left out: {text}" for text in budgets]
        counts = f"{len(self.written)} archived, {len(self.unchanged)} there before"
        rest = (f", {len(many)} {what}" for what, many in (("kept", self.conflicts), ("refused", self.refused)) if many)
        return [*self.conflicts, *self.refused, *skipped, counts + "".join(rest)]


def archive_runs(output: Path | str, results: Path | str, budgets: Iterable[str] = FULL) -> ArchiveReport:
    """Archive every finished run below ``output/runs`` that has one of the budget labels, and its evaluations.

    Prerequisites are runs of their own, and are archived, too. Every file is written atomically; a repetition changes
    nothing.

    Args:
        output: the folder with ``runs/``.
        results: the archive's folder; made if it does not exist.
        budgets: the budget labels.

    Raises:
        LacunaError: the archive cannot be written.
    """
    report, chosen = ArchiveReport(), set(budgets)

    def refuse(path: Path, reason: str) -> None:
        report.refused.append(f"refused: {reason}" if str(path) in reason else f"refused: {path}: {reason}")

    for run in finished_runs(output, skip=refuse):
        version, budget = run.recipe.config.get("version"), str(run.recipe.config.get("budget"))
        if budget not in chosen:
            report.left_out[budget] += 1
        elif version != VERSION:
            report.refused.append(
                f"refused: {run.folder.path} is of recipe version {version}, not {VERSION}: "
                f"run `{command_text('migrate')}`."
            )
        else:
            _archive(run, Path(results), report)
    return report


def pack(results: Path | str, file: Path | str) -> int:
    """Write every run of an archive into one file of JSON lines, by name; returns their number.

    Raises:
        LacunaError: a file of the archive is damaged, or the file cannot be written.
    """
    paths = sorted(Path(results).glob("*.json"))
    lines = [json.dumps(read_archived(path).record, sort_keys=True, allow_nan=False) + "\n" for path in paths]
    files.write_text(Path(file), "".join(lines))
    return len(lines)


def unpack(file: Path | str, results: Path | str, budgets: Iterable[str] | None = None) -> ArchiveReport:
    """Add the runs in a file from :func:`pack` to an archive; those of an earlier version are migrated.

    Args:
        file: JSON lines, one per run.
        results: the archive's folder; made if it does not exist.
        budgets: the budget labels; None: all.

    Raises:
        LacunaError: there is no such file, or the archive cannot be written.
    """
    try:
        lines = Path(file).read_bytes().splitlines()
    except OSError as error:
        raise LacunaError(f"{file} cannot be read ({error.strerror}): input= names a file made by pack=.") from error
    report, chosen = ArchiveReport(), None if budgets is None else set(budgets)
    for number, line in enumerate(lines, start=1):
        place = f"{file}, line {number},"
        try:
            run = archived_run(migrate_record(json.loads(line)), place)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            report.refused.append(f"refused: {place} is damaged ({type(error).__name__}: {error}).")
            continue
        except LacunaError as error:
            report.refused.append(f"refused: {error}" if place in str(error) else f"refused: {place} {error}")
            continue
        budget = str(run.recipe.config["budget"])
        if chosen is not None and budget not in chosen:
            report.left_out[budget] += 1
        else:
            _archive(run, Path(results), report)
    return report


def _archive(run: StoredRun, results: Path, report: ArchiveReport) -> None:
    """Add one run, unless the archive has metrics for it; add its evaluations that are new."""
    name = run.recipe.name
    file = results / f"{name}.json"
    report.refused += [f"refused: {path} is no evaluation ({why})" for path, why in run.damaged_evaluations.items()]
    try:
        record = record_of(run)
        before = read_archived(file) if file.exists() else None
    except LacunaError as error:
        report.refused.append(f"refused: {error}")
        return
    if before is None:
        files.write_json(file, record)
        report.written.append(name)
        return
    conflict = _conflict(before, run)
    if conflict:
        report.conflicts.append(conflict)
        return
    added = {key: value for key, value in record["evaluations"].items() if key not in before.evaluations}
    if added:
        files.write_json(file, {**before.record, "evaluations": {**before.evaluations, **added}})
    (report.written if added else report.unchanged).append(name)


def _conflict(before: ArchivedRun, run: StoredRun) -> str:
    """A sentence where the archive has other metrics than a run; empty where they agree."""
    pairs = [("", before.metrics, run.metrics)]
    pairs += [
        (f" in the evaluation {name}", before.evaluations[name]["metrics"], record["metrics"])
        for name, record in run.evaluations.items()
        if name in before.evaluations
    ]
    for where, one, other in pairs:
        metric = next((key for key in sorted({*one, *other}) if one.get(key) != other.get(key)), None)
        if metric is not None:
            return (
                f"kept: {before.file} has {metric} {_value(one, metric)}{where} ({_provenance(before)}), "
                f"and {run.place if not run.archived else 'the other'} has {_value(other, metric)} ({_provenance(run)})"
            )
    return ""


def _value(metrics: Mapping[str, float], metric: str) -> str:
    return repr(metrics[metric]) if metric in metrics else "not at all"


def _provenance(run: StoredRun) -> str:
    return ", ".join([*run.hardware, *run.commits]) or "of unknown origin"


def main(arguments: Sequence[str]) -> int:
    """The command line of ``scripts/archive.py``; 1 where everything there was to archive was refused.

    Raises:
        LacunaError: a wrong argument, or the archive cannot be written.
    """
    config = read_key_values(arguments, DEFAULTS)
    output, results = Path(str(config["output"])), Path(str(config["results"]))
    budgets = _budgets(config["budgets"])
    if config["input"] is not None:
        report = unpack(str(config["input"]), results, budgets)
    elif (output / "runs").is_dir():
        report = archive_runs(output, results, FULL if budgets is None else budgets)
    elif config["pack"] is None:
        raise LacunaError(f"{output / 'runs'} does not exist: output=... names the folder that holds runs/.")
    else:
        report = ArchiveReport()
    for line in report.lines[:-1]:
        print(line, file=sys.stderr)
    print(f"{results}: {report.lines[-1]}")
    if config["pack"] is not None:
        print(f"{config['pack']}: {pack(results, str(config['pack']))} runs")
    return int(bool(report.refused) and not (report.written or report.unchanged))


def _budgets(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    listed = given if isinstance(given, list) else [given]
    if not listed or not all(isinstance(name, str) for name in listed):
        raise LacunaError(f"budgets={given} must be names of budgets, as in budgets=[paper,full].")
    return tuple(listed)
