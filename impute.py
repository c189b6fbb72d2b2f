"""Fill the holes of your own images with a trained density."""

import sys

from lacuna.cli import verb

main = verb("impute", "lacuna.runs.impute:main")

if __name__ == "__main__":
    sys.exit(main())
