"""What results say of data that are not on this machine, so that tables can be made of results alone."""

from __future__ import annotations

from pathlib import Path

from lacuna import files
from lacuna.errors import LacunaError
from lacuna.runs.archive_record import Archive


def fingerprint_in(output: Path, archive: Archive, data: str) -> str | None:
    """What finished runs say of data that are not on this machine (results that were copied here, say).

    Where they were made with several versions of the data, that of the whole published set counts.
    """
    found: dict[str, bool] = {}
    for path in (output / "runs").glob(f"{data}-*/recipe.json"):
        try:
            found.setdefault(str(files.read_json(path)["data"]["fingerprint"]), False)
        except (LacunaError, KeyError, TypeError):
            continue
    for run in archive.runs():
        if run.recipe.config["data"]["name"] == data:
            fingerprint = str(run.recipe.config["data"]["fingerprint"])
            found[fingerprint] = found.get(fingerprint, False) or bool(run.complete)
    whole = [fingerprint for fingerprint, complete in found.items() if complete]
    one = list(found) if len(found) == 1 else whole
    return one[0] if len(one) == 1 else None
