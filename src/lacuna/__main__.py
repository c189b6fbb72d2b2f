"""``python -m lacuna train ...`` is ``lacuna train ...``."""

import sys

from lacuna.verbs.cli import main

if __name__ == "__main__":
    sys.exit(main())
