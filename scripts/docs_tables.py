"""Write the numbers of results/ into the tables of README.md and docs/, between their markers.

python scripts/docs_tables.py               write them
python scripts/docs_tables.py check=true    exit 1 if a document is not up to date, and write nothing

A marker: <!-- table misconv/table1 columns=mnist rows=[zero,gt] budget=paper --> ... <!-- end -->
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lacuna.config.key_values import read_key_values
from lacuna.errors import LacunaError
from lacuna.report.docs_tables import update

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 on success, 1 if check=true finds an outdated document, 2 for a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="key=value", help="check=true, or another archive with results=")
    parser.add_argument("--check", action="store_true", help="as check=true")
    arguments = parser.parse_args(argv)
    try:
        options = read_key_values(arguments.words, {"check": arguments.check, "results": ROOT / "results"})
        if not isinstance(options["check"], bool):
            raise LacunaError(f"check={options['check']} must be true or false.")
        stale = update(ROOT, Path(options["results"]), check=options["check"])
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in stale:
        name = path.relative_to(ROOT)
        print(f"{name} is not up to date: run make docs-tables." if options["check"] else f"updated: {name}")
    return int(options["check"] and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
