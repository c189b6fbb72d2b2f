"""What a tutorial asks its reader to do: files to write and commands to run, with the output they show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
BESIDE_IMPORTS, WITHIN = ", beside the other imports", ", in "


@dataclass(frozen=True)
class File:
    """A file to write, or lines to add to one: ``title="PATH"``, ``"PATH, in NAME"``."""

    title: str
    text: str

    def write(self, root: Path) -> None:
        """Do what the title says, in a copy of the checkout."""
        if self.title.endswith(BESIDE_IMPORTS):
            path, before = root / self.title.removesuffix(BESIDE_IMPORTS), "from lacuna."
            lines = path.read_text(encoding="utf-8").splitlines()
            place = next(number for number, line in enumerate(lines) if line.startswith(before))
        elif WITHIN in self.title:
            name, _, holder = self.title.partition(WITHIN)
            path = root / name
            lines = path.read_text(encoding="utf-8").splitlines()
            place = next(number for number, line in enumerate(lines, 1) if re.match(rf"{holder}\b.*[\[({{]$", line))
        else:
            path, lines, place = root / self.title, [], 0
        lines.insert(place, self.text.rstrip("\n"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Command:
    """A command and the lines that the page shows of its output."""

    text: str
    shown: tuple[str, ...]


def steps(text: str) -> list[File | Command]:
    """The files and commands of a page, in its order. Blocks without title that are no console are only shown."""
    found: list[File | Command] = []
    for language, title, body in BLOCK.findall(text):
        if title:
            found.append(File(title, body))
        elif language == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, *shown = part.splitlines()
                found.append(Command(command, tuple(shown)))
    return found


def pattern(line: str) -> str:
    """A line without what another budget, hash or machine changes: numbers, hashes, blanks, rules."""
    line = re.sub(r"-[0-9a-f]{10,12}\b", "-#", line)
    line = re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", line)
    return " ".join(re.sub("─+", "─", line).replace("*", "").replace("†", "").split())


def missing_lines(shown: tuple[str, ...], output: str) -> list[str]:
    """The shown lines that the output lacks, in this order; ``...`` stands for any lines."""
    left, lacking = iter([pattern(line) for line in output.splitlines()]), []
    for line in shown:
        wanted = pattern(line)
        if wanted not in ("...", "") and not any(wanted == found for found in left):
            lacking.append(line)
    return lacking
