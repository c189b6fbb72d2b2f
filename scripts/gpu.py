"""One command for a machine with a GPU, torch and Lightning, but no network: `python scripts/gpu.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from lacuna.gpu.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
