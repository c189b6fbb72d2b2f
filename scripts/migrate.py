"""Migrate runs of an earlier version of the recipe: archive files and run folders get today's words and names.

python scripts/migrate.py                                  results/ and outputs/runs
python scripts/migrate.py results=results output=outputs   the same
python scripts/migrate.py check=true                       only print what would be done

Only names change; every number stays. It can be repeated. What cannot be migrated is named and left as it is.
"""

from __future__ import annotations

import argparse
import sys

from lacuna.errors import LacunaError
from lacuna.training.migrate import main as migrate


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 something could not be migrated, 2 a mistake the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="key=value", help="results, output or check")
    arguments = parser.parse_args(argv)
    try:
        return migrate(arguments.words)
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
