"""The wheel of this checkout, and environments in which it is installed beside the other packages of this one."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]


def run(words: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of this checkout."""
    outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(list(map(str, words)), cwd=folder, env=outside, capture_output=True, text=True)


def build(folder: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it; nothing is fetched."""
    # their metadata: a search for pip's module makes setuptools step back from distutils in this process, where
    # torch.compile needs it later
    if not all(any(importlib.metadata.distributions(name=name)) for name in ("pip", "setuptools")):
        pytest.skip("needs pip and setuptools, which build it")
    copy = folder / "copy"  # a build leaves files in its folder
    ignored = shutil.ignore_patterns(".*", "tests", "outputs", "build", "*.egg-info", "__pycache__", "results", "docs")
    shutil.copytree(ROOT, copy, ignore=ignored)
    code = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    made = run([sys.executable, "-c", code, folder], copy)
    assert made.returncode == 0, made.stderr
    (source,) = folder.glob("*.tar.gz")
    made = run(
        [sys.executable, "-m", "pip", "wheel", *OFFLINE, "--no-cache-dir", "--wheel-dir", folder, source], folder
    )
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("*.whl")
    return source, wheel


def environment(place: Path, wheel: Path) -> Path:
    """``bin`` of a new environment with the wheel, and with the other packages of this one."""
    venv.create(place, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (place / "lib" / version / "site-packages" / "others.pth").write_text(sysconfig.get_path("purelib"))
    install(place / "bin", wheel, place)
    return place / "bin"


def install(binaries: Path, package: Path | str, folder: Path) -> None:
    """Install a wheel or a folder into an environment."""
    done = run([sys.executable, "-m", "pip", "--python", binaries / "python", "install", *OFFLINE, package], folder)
    assert done.returncode == 0, done.stderr
