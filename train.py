"""Train what the configuration says, and whatever it needs first."""

import sys

from lacuna.verbs.command import verb

main = verb("train", "lacuna.verbs.train:main")

if __name__ == "__main__":
    sys.exit(main())
