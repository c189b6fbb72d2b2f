"""Search good hyper-parameters: every trial is a run of train.py, judged by validation images."""

import sys

from lacuna.verbs.command import verb

main = verb("sweep", "lacuna.verbs.sweep:main")

if __name__ == "__main__":
    sys.exit(main())
