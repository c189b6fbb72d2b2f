"""Write the numbers of results/ into the tables of README.md and docs/, between their markers.

python scripts/docs_tables.py               write them
python scripts/docs_tables.py check=true    exit with 1 if a document is out of date; nothing is written

A marker: <!-- table misconv/table1 columns=mnist rows=[zero,gt] budget=paper --> ... <!-- end -->
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lacuna.config.key_values import read_words
from lacuna.errors import LacunaError
from lacuna.report.docs_tables import update

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns 0: done, 1: check=true found an outdated document, 2: a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="key=value", help="check=true, or another archive with results=")
    parser.add_argument("--check", action="store_true", help="as check=true")
    arguments = parser.parse_args(argv)
    try:
        told = read_words(arguments.words, {"check": arguments.check, "results": ROOT / "results"})
        if not isinstance(told["check"], bool):
            raise LacunaError(f"check={told['check']} must be true or false.")
        stale = update(ROOT, Path(told["results"]), check=told["check"])
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in stale:
        name = path.relative_to(ROOT)
        print(f"{name} is not up to date: run make docs-tables." if told["check"] else f"written: {name}")
    return int(told["check"] and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
