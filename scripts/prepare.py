"""Prepare a data set: download it, or use arrays that you have read yourself."""

import sys

from lacuna.verbs.prepare import main

if __name__ == "__main__":
    sys.exit(main())
