"""The installed package: a source distribution, the wheel made of it, and the command in an empty folder."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from lacuna.extras import DISTRIBUTION
from tests.wheel import ROOT, build, environment, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution and the wheel."""
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def binaries(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a new environment with the wheel."""
    return environment(tmp_path_factory.mktemp("environment"), archives[1])


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
