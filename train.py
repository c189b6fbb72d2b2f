"""Train what the configuration says, and whatever it needs first."""

import sys

from lacuna.cli import verb

main = verb("train", "lacuna.runs.train:main")

if __name__ == "__main__":
    sys.exit(main())
