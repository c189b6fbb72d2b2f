"""Migrate runs of an earlier version of the recipe: rename keys in archive files and run folders."""

import sys

from lacuna.verbs.migrate import main

if __name__ == "__main__":
    sys.exit(main())
