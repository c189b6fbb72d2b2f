"""Write which of MisConv's published gaps survive in the runs that are done: docs/misconv_gaps.md.

python scripts/gaps.py output=outputs                           runs of the full setting, one seed
python scripts/gaps.py output=outputs budget=quick seeds=3      any word that reproduce.py takes before --
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lacuna import files
from lacuna.cli import CONFIGS
from lacuna.composer import Composer
from lacuna.composing import compose
from lacuna.errors import LacunaError
from lacuna.tables.gaps import gaps_page
from lacuna.tables.gather import gather
from lacuna.tables.plan import plan_tables
from lacuna.tables.reproduce import find_tables, wishes

TABLE = "misconv/all"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "misconv_gaps.md"


def page(words: list[str]) -> str:
    """The page of the runs that ``reproduce.py words`` would show; nothing is trained."""
    chosen = words if any(word.startswith("table=") for word in words) else [f"table={TABLE}", *words]
    config = compose(CONFIGS, "reproduce", chosen)
    cache = Path(config["output"]) / ".cache"
    specs = find_tables(config["table"], Composer(CONFIGS, "reproduce", cache))
    tables = [spec for spec in specs if spec.paper == spec.name]  # each printed number once
    composer = Composer(CONFIGS, "train", cache)
    plan = plan_tables(tables, composer, wishes(config, prepare=False))
    composer.save()
    return gaps_page(gather(plan))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 on success, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="key=value", help="as for reproduce.py")
    parser.add_argument("--to", type=Path, default=PAGE, help="the page to write (default: docs/misconv_gaps.md)")
    arguments = parser.parse_args(argv)
    try:
        files.write_text(arguments.to, page(arguments.words))
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(arguments.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
