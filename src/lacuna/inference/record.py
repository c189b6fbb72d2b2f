"""What has been finished in a folder of results, so that a command that was stopped can go on there.

The record is a file of JSON lines in the folder: the settings, then a line for each input, written before its results.
A line that a kill has cut off counts for nothing. A result that is not what the record says is never overwritten.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.data.sources.listing import MARK
from lacuna.errors import LacunaError

RECORD = "imputed.jsonl"


class Record:
    """The record of a folder of results, which is made with the first result.

    Args:
        folder: of the results.
        settings: what decides the results beside the input.

    Raises:
        LacunaError: the folder holds something else.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings, self.path = folder, dict(settings), folder / RECORD
        self._done: dict[str, dict[str, Any]] = {}
        self._started = False
        if folder.exists() or folder.is_symlink():
            self._read()

    def is_done(self, name: Path, digest: str) -> bool:
        """Whether all results of an input are there.

        Args:
            name: of the input.
            digest: of its files.

        Raises:
            LacunaError: one of the results was changed since.
        """
        line = self._done.get(name.as_posix())
        if line is None or line["input"] != digest:
            return False
        return all([self._is_there(self.folder / output, line["results"][output]) for output in line["results"]])

    def was_changed(self, name: Path, digest: str) -> bool:
        """Whether an input has results already, of other content."""
        line = self._done.get(name.as_posix())
        return line is not None and line["input"] != digest

    def write(self, name: Path, digest: str, results: Mapping[Path, bytes]) -> None:
        """Write the results of an input.

        Args:
            name: of the input.
            digest: of its files.
            results: file, relative to the folder -> content.

        Raises:
            LacunaError: the folder cannot be written, or holds a file of that name that is not of this command.
        """
        mine = self._done.get(name.as_posix(), {}).get("results", {})
        shas = {output.as_posix(): _sha(content) for output, content in results.items()}
        for output in results:
            place = self.folder / output
            known = (shas[output.as_posix()], mine.get(output.as_posix()))
            if place.exists() and _sha(place.read_bytes()) not in known:
                raise LacunaError(
                    f"{place} was changed or made by something else: move it away, it is not overwritten."
                )
        line = {"input": digest, "name": name.as_posix(), "results": shas}
        self._append(line)
        for output, content in results.items():
            place = self.folder / output
            for cut_off in place.parent.glob(f".{glob.escape(place.name)}.????????"):
                cut_off.unlink()  # of a command that was killed while it wrote this file
            with files.replacing(place) as temporary:
                temporary.write_bytes(content)
        self._done[name.as_posix()] = line

    def _is_there(self, place: Path, digest: str) -> bool:
        if not place.exists():
            return False
        if _sha(place.read_bytes()) != digest:
            raise LacunaError(f"{place} was changed since it was made: move it away, it is not overwritten.")
        return True

    def _append(self, line: Mapping[str, Any]) -> None:
        with files.disk_errors(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / MARK).touch()
            with self.path.open("a", encoding="utf-8") as stream:
                for value in (*([] if self._started else [self.settings]), line):
                    stream.write(json.dumps(value, sort_keys=True) + "\n")
        self._started = True

    def _read(self) -> None:
        taken = f"to={self.folder} exists already: choose another place, nothing is overwritten."
        if not self.path.is_file():
            raise LacunaError(taken)
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()] or [self.settings]
            self._done = {line["name"]: line for line in lines if line["results"] is not None}
        except (ValueError, KeyError, TypeError) as error:
            raise LacunaError(f"{self.path} is damaged: choose another place for the results.") from error
        other = sorted(key for key in {*first, *self.settings} if first.get(key) != self.settings.get(key))
        if other:
            told = ", ".join(f"{key}={first.get(key)}" for key in other)
            raise LacunaError(f"{taken} (It holds results of another command: {told}.)")
        if whole != text:
            files.write_text(self.path, whole)
        self._started = bool(whole)


def digest_of(paths: list[Path]) -> str:
    """Of the content of files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_sha(path.read_bytes()).encode())
    return digest.hexdigest()


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
