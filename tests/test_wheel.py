"""The installed package: a source distribution, the wheel made of it, and the command in an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from lacuna.extras import DISTRIBUTION, installed

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def run(words: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(list(map(str, words)), cwd=folder, env=outside, capture_output=True, text=True)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it; nothing is fetched."""
    if not all(map(installed, ("pip", "setuptools"))):
        pytest.skip("needs pip and setuptools, which build it")
    folder = tmp_path_factory.mktemp("package")
    copy = folder / "copy"  # a build leaves files in its folder
    ignored = shutil.ignore_patterns(".*", "tests", "outputs", "build", "*.egg-info", "__pycache__", "results", "docs")
    shutil.copytree(ROOT, copy, ignore=ignored)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    made = run([sys.executable, "-c", build, folder], copy)
    assert made.returncode == 0, made.stderr
    (source,) = folder.glob("*.tar.gz")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir", "--quiet"]
    made = run([sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", folder, source], folder)
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("*.whl")
    return source, wheel


@pytest.fixture(scope="module")
def binaries(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a new environment with the wheel, and with the other packages of this one."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (place / "lib" / version / "site-packages" / "others.pth").write_text(sysconfig.get_path("purelib"))
    words = ["--python", place / "bin" / "python", "install", "--no-deps", "--no-index", "--quiet", archives[1]]
    made = run([sys.executable, "-m", "pip", *words], place)
    assert made.returncode == 0, made.stderr
    return place / "bin"


def test_the_config_files_are_in_both(archives: tuple[Path, Path]) -> None:
    source, wheel = archives
    configs = {f"configs/{path.relative_to(ROOT / 'configs')}" for path in (ROOT / "configs").rglob("*.yaml")}
    with tarfile.open(source) as sources:
        names = {name.partition("/")[2] for name in sources.getnames()}
    assert configs <= names and {"train.py", "setup.py"} <= names
    with zipfile.ZipFile(wheel) as file:
        packed = file.namelist()
        metadata = file.read(next(name for name in packed if name.endswith(".dist-info/METADATA"))).decode()
        for name in configs:
            assert file.read(f"lacuna/{name}") == (ROOT / name).read_bytes()
    assert {name for name in packed if name.startswith("lacuna/configs/")} == {f"lacuna/{name}" for name in configs}
    assert {name.split("/")[0] for name in packed if ".dist-info/" not in name} == {"lacuna"}
    assert f"\nName: {DISTRIBUTION}\n" in metadata
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert not [line for line in needed if any(name in line for name in ("wandb", "ray", "optuna", "mlflow", "timm"))]


def test_a_run_in_an_empty_folder(binaries: Path, tmp_path: Path) -> None:
    """Two jobs of ``-m``, one of which has a prerequisite; then what is trained is imputed, tabulated and loaded."""
    own = ["budget=smoke", "trainer.accelerator=cpu", "trainer.progress=false"]
    words = ["-m", "experiment=digits_misconv,digits_zero", *own]
    done = run([binaries / "lacuna", "train", *words], tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    runs = sorted(path.parent for path in tmp_path.glob("outputs/runs/*/metrics.json"))
    assert [path.name.split("-")[2] for path in runs] == ["dmfa", "misconv", "zero"]
    environment = json.loads((runs[2] / "environment.json").read_text())
    command = environment["attempts"][-1]["command"] if "attempts" in environment else environment["command"]
    assert command[:2] == [str(binaries / "lacuna"), "train"] and "experiment=digits_zero" in command

    said = run([binaries / "lacuna", "evaluate", "run=digits-square-dmfa", "trainer.accelerator=cpu"], tmp_path)
    assert said.returncode == 0, said.stderr
    said = run([binaries / "lacuna", "reproduce", "table=demo", "budget=smoke", "plan=true"], tmp_path)
    assert said.returncode == 0 and "runs: " in said.stdout, said.stderr
    said = run([binaries / "lacuna", "train", "data=mnist", "data.download=false"], tmp_path)
    assert said.returncode == 2 and "run `lacuna prepare mnist --root outputs/data`" in said.stderr
    said = run([binaries / "lacuna", "train", "experiment=digits_zero", "--cfg", "job", "--package", "net"], tmp_path)
    assert said.returncode == 0 and "hidden: 32" in said.stdout, said.stderr
    code = "import lacuna; print(lacuna.__file__, type(lacuna.load('digits-square-dmfa')).__name__)"
    said = run([binaries / "python", "-c", code], tmp_path)
    assert said.returncode == 0 and said.stdout.startswith(str(binaries.parent / "lib")), said.stderr


def test_a_sweep_in_an_empty_folder(binaries: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = ["experiment=digits_zero", "search=classifier", "trials=1", "budget=smoke", "trainer.accelerator=cpu"]
    said = run([binaries / "python", "-m", "lacuna", "sweep", *words], tmp_path)
    assert said.returncode == 0, said.stderr
    assert "the best trial as one run:\nlacuna train experiment=digits_zero" in said.stdout
