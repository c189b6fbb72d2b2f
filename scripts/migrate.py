"""Migrate runs of an earlier version of the recipe: rename keys in archive files and run folders.

python scripts/migrate.py                                  results/ and outputs/runs
python scripts/migrate.py results=results output=outputs   the same
python scripts/migrate.py check=true                       only print what would be migrated

Only names change, numbers do not. It can be repeated. What cannot be migrated is listed and left unchanged.
"""

from __future__ import annotations

import argparse
import sys

from lacuna.errors import LacunaError
from lacuna.training.migrate import main as migrate


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 something could not be migrated, 2 a wrong argument."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="results, output or check")
    arguments = parser.parse_args(argv)
    try:
        return migrate(arguments.arguments)
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
