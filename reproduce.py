"""Reproduce tables: everything behind them that is not done yet, then the tables beside the papers' numbers."""

import sys

from lacuna.cli import verb

main = verb("reproduce", "lacuna.tables.reproduce:main")

if __name__ == "__main__":
    sys.exit(main())
