"""The environment of child processes: the source, wheels if Hydra is missing, and the GPUs that they may see."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from lacuna.errors import LacunaError

ROOT = Path(__file__).resolve().parents[3]


def set_up(wheels: Path | None, work: Path, accelerator: str) -> None:
    """Set up this process and its children.

    Raises:
        LacunaError: Hydra is missing and cannot be installed from ``wheels``.
    """
    _add_to_path(ROOT / "src")
    if not _importable("hydra"):
        _install(wheels, work / "site")
    if accelerator == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["PYTHONUNBUFFERED"] = "1"


def torch_has_cuda() -> bool:
    """Whether torch can use a GPU here; asked in a separate process."""
    question = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", question], capture_output=True).returncode == 0


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _add_to_path(folder: Path) -> None:
    """Make a folder importable, here and in child processes."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    before = os.environ.get("PYTHONPATH", "")
    if str(folder) not in before.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), before]))
    importlib.invalidate_caches()


def _install(wheels: Path | None, site: Path) -> None:
    found = sorted(map(str, wheels.glob("*.whl"))) if wheels is not None else []
    if not found:
        where = f"wheels={wheels} has no wheels" if wheels is not None else "there are no wheels"
        raise LacunaError(f"hydra-core is not installed and {where}: name a folder of wheels with wheels=DIR.")
    options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), *found]
    done = subprocess.run(command, capture_output=True, text=True)
    _add_to_path(site)
    if done.returncode or not _importable("hydra"):
        reason = (done.stderr.strip().splitlines() or ["they do not include Hydra"])[-1]
        raise LacunaError(f"The wheels in {wheels} could not be installed ({reason}): replace them.")
