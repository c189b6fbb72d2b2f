"""Write which published gaps between methods the finished runs reproduce: docs/misconv_gaps.md, docs/prflow_gaps.md.

python scripts/gaps.py output=outputs seeds=5                   MisConv, runs with the paper's settings
python scripts/gaps.py --paper prflow output=outputs seeds=5    PRFlow
python scripts/gaps.py output=outputs budget=quick seeds=3      any key=value of reproduce.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lacuna import files
from lacuna.config.compose import compose
from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.report.gaps_page import gaps_page
from lacuna.tables.gaps import PROPOSALS
from lacuna.tables.gather import gather
from lacuna.tables.plan import plan_tables
from lacuna.tables.request import find_tables, wishes
from lacuna.tables.spec import TableSpec

DOCS = Path(__file__).resolve().parent.parent / "docs"


def page(paper: str, words: list[str]) -> str:
    """The page for the runs that ``reproduce.py words`` would show; nothing is trained."""
    chosen = words if any(word.startswith("table=") for word in words) else [f"table={paper}/all", *words]
    config = compose(CONFIGS, "reproduce", chosen)
    cache = Path(config["output"]) / ".cache"
    specs = find_tables(config["table"], Composer(CONFIGS, "reproduce", cache))
    if not any((spec.paper or "").startswith(f"{paper}/") for spec in specs):
        raise LacunaError(f"{chosen[0]} shows no number of the paper {paper}: choose another table, or --paper.")
    composer = Composer(CONFIGS, "train", cache)
    plan = plan_tables([spec for spec in specs if _prints(spec)], composer, wishes(config, prepare=False))
    composer.save()
    return gaps_page(gather(plan), paper)


def _prints(spec: TableSpec) -> bool:
    """Whether a table has the name of the paper's table, so that each printed number is counted once."""
    paper, _, rest = (spec.paper or "").partition("/")
    return spec.name == f"{paper}/{rest.replace('/', '_')}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns 0: done, 2: an error that the user can correct."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="key=value", help="as for reproduce.py")
    parser.add_argument("--paper", choices=tuple(PROPOSALS), default="misconv", help="whose gaps (default: misconv)")
    parser.add_argument("--to", type=Path, help="the page to write (default: docs/PAPER_gaps.md)")
    arguments = parser.parse_intermixed_args(argv)
    target = arguments.to or DOCS / f"{arguments.paper}_gaps.md"
    try:
        files.write_text(target, page(arguments.paper, arguments.words))
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
