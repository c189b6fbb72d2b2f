"""Judge a finished run on another mask or split."""

import sys

from lacuna.cli import verb

main = verb("evaluate", "lacuna.runs.evaluate:main")

if __name__ == "__main__":
    sys.exit(main())
