"""Reproduce tables: everything behind them that is not done yet, then the tables beside the papers' numbers."""

import sys

from lacuna.verbs.command import verb

main = verb("reproduce", "lacuna.verbs.reproduce:main")

if __name__ == "__main__":
    sys.exit(main())
