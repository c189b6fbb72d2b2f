"""Fingerprints of data sets that are not on this machine, as recorded with finished runs and archived results."""

from __future__ import annotations

from pathlib import Path

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.archive_record import Archive


def recorded_fingerprint(output: Path, archive: Archive, data: str) -> str | None:
    """The fingerprint that finished runs recorded for a data set. Lets tables be made from results without the data.

    Args:
        output: the folder in which ``runs/`` lies.
        archive: archived runs.
        data: name of the data set.

    Returns:
        None if no run recorded one, or several did. Of several, the only one of a complete published set is taken.
    """
    complete_by_fingerprint: dict[str, bool] = {}
    for path in (output / "runs").glob(f"{data}-*/recipe.json"):
        try:
            complete_by_fingerprint.setdefault(str(files.read_json(path)["data"]["fingerprint"]), False)
        except (LacunaError, KeyError, TypeError):
            continue
    for run in archive.runs():
        if run.recipe.config["data"]["name"] == data:
            fingerprint = str(run.recipe.config["data"]["fingerprint"])
            complete_by_fingerprint[fingerprint] = complete_by_fingerprint.get(fingerprint, False) or bool(run.complete)
    complete = [fingerprint for fingerprint, is_complete in complete_by_fingerprint.items() if is_complete]
    candidates = list(complete_by_fingerprint) if len(complete_by_fingerprint) == 1 else complete
    return candidates[0] if len(candidates) == 1 else None
