"""Fill the holes of your own images with a trained density."""

import sys

from lacuna.verbs.command import verb

main = verb("impute", "lacuna.verbs.impute:main")

if __name__ == "__main__":
    sys.exit(main())
