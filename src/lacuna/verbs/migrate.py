"""The command ``migrate``: runs of an earlier version of the recipe get the present names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lacuna.errors import LacunaError
from lacuna.program import command_text
from lacuna.training.migrate import main as migrate

ABOUT = """\
Migrate runs of an earlier version of the recipe: rename keys in archive files and run folders.

{migrate}                                  results/ and outputs/runs
{migrate} results=results output=outputs   the same
{migrate} check=true                       only print what would be migrated

Only names change, numbers do not. It can be repeated. What cannot be migrated is listed and left unchanged.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 done, 1 something could not be migrated, 2 a wrong argument."""
    typed = command_text("migrate")
    about, layout = ABOUT.format(migrate=typed), argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=typed, description=about, formatter_class=layout)
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="results, output or check")
    arguments = parser.parse_args(argv)
    try:
        return migrate(arguments.arguments)
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
