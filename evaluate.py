"""Judge a finished run on another mask or split."""

import sys

from lacuna.verbs.command import verb

main = verb("evaluate", "lacuna.verbs.evaluate:main")

if __name__ == "__main__":
    sys.exit(main())
