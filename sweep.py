"""Search good hyper-parameters: every trial is a run of train.py, judged by validation images."""

import sys

from lacuna.cli import verb

main = verb("sweep", "lacuna.search.sweep:main")

if __name__ == "__main__":
    sys.exit(main())
