"""Archive finished runs: one small JSON file each in results/, with metrics, provenance, hardware, commit and seconds.

python scripts/archive.py                                    full-budget runs of outputs/runs into results/
python scripts/archive.py output=outputs results=results     the same
python scripts/archive.py budgets=[quick]                    runs of other budgets
python scripts/archive.py pack=runs.jsonl                    also write the whole archive into one file
python scripts/archive.py input=runs.jsonl                   add the runs of such a file, of another machine, say

A run that is in the archive keeps its stored numbers; if they differ, a line says so.
"""

from __future__ import annotations

import argparse
import sys

from lacuna.errors import LacunaError
from lacuna.runs.archive import main as archive


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns 0: done, 1: no run was accepted, 2: an error that the user can correct."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="output, results, budgets, input or pack")
    arguments = parser.parse_args(argv)
    try:
        return archive(arguments.arguments)
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
