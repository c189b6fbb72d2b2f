"""A net of attributes: trained on complete faces with 40 attributes each, a feature net for FID but not for SCC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lacuna.data.prepared import Arrays, Description, write
from lacuna.data.sources.celeba import CelebA
from lacuna.runs.folder import RunFolder
from lacuna.tasks.common.models import IncompleteClassifier
from lacuna.training.loading import load
from tests.runs.real import recipe, train

RUN = (
    "experiment=celeba32_impute",
    "imputer=linear",
    "mask.rate=0.5",
    "data.download=false",
    "features.run.net.stages=[[8,1],[12,1]]",
    "features.run.net.training.epochs=4",
    "features.run.net.training.batch_size=16",
    "features.run.net.training.lr=0.01",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)


def faces(n: int, seed: int) -> Arrays:
    """Noise in colours; each of 40 attributes says which of the three is bright, or whether there are lines."""
    noise = np.random.default_rng(seed)
    yes = np.tile(noise.integers(0, 2, (n, 4), dtype=np.uint8), 10)
    images = noise.integers(0, 60, (n, 3, 32, 32), dtype=np.uint8) + 100 * yes[:, :3, None, None]
    images[:, :, ::4] += 90 * yes[:, 3, None, None, None]
    return Arrays(images, yes)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("faces")
    about = Description("celeba32", None, "made up", complete=False, attributes=40)
    write(CelebA(32, "prflow").folder(place), about, {"train": faces(240, 0), "test": faces(60, 1)})
    return place


@pytest.fixture(scope="module")
def imputed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    words = (*RUN, f"data.root={root}", f"output={tmp_path_factory.mktemp('imputed')}")
    assert train(*words) == 0
    return RunFolder.of(Path(words[-1].partition("=")[2]), recipe(*words))


def network_of(run: RunFolder) -> RunFolder:
    return RunFolder(run.path.parent / run.recipe.prerequisites["features"].name)


def test_it_learns_the_attributes(imputed: RunFolder) -> None:
    found = network_of(imputed).metrics["metrics"]
    assert found["complete/balanced_accuracy"] > 0.9 and found["complete/accuracy"] > 0.9
    assert found["complete/loss"] < 0.5 < np.log(2) and found["test/loss"] == found["complete/loss"]  # whole images
    assert network_of(imputed).recipe.config["mask"]["name"] == "none"


def test_a_stored_net_has_an_output_for_each_attribute(imputed: RunFolder, root: Path) -> None:
    net: Any = load(network_of(imputed))
    assert isinstance(net, IncompleteClassifier) and net.body.fc.out_features == 40


def test_fid_names_its_feature_net(imputed: RunFolder) -> None:
    found = imputed.metrics
    assert found["metrics"]["test/fid"] > 0 and "test/rmse" in found["metrics"]
    assert not any("scc" in name or "accuracy" in name for name in found["metrics"])
    said = found["protocols"]["test/fid"]
    assert f"attributes of {network_of(imputed).path.name}" in said and "12 features" in said


@pytest.mark.parametrize("stem", ["mask", "mean"])
def test_any_stem_serves_faces_with_attributes(root: Path, tmp_path: Path, stem: str) -> None:
    words = ["data=celeba32", "mask=bernoulli", f"stem={stem}", "stem.filters=4", "net=resnet18", "budget=smoke"]
    words += ["net.light.stages=[[4,1]]", "features=none", "trainer.accelerator=cpu", "trainer.progress=false"]
    words += [f"data.root={root}", f"output={tmp_path}"]
    assert train(*words) == 0
    found = RunFolder.of(tmp_path, recipe(*words)).metrics["metrics"]
    assert {"test/balanced_accuracy", "complete/balanced_accuracy", "test/loss"} <= found.keys()


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        ((), ["features=attributes is trained on labels", "features=autoencoder32", "scripts/prepare.py celeba32"]),
        (("features=resnet18",), ["features=resnet18 is trained on labels"]),
        (("features=facenet",), ["20180402-114759-vggface2.pt", "features.weights"]),
    ],
)
def test_mistakes_are_found_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], messages: list[str]
) -> None:
    splits = {split: Arrays(faces(20, 0).images) for split in ("train", "test")}
    write(CelebA(32, "prflow").folder(tmp_path), Description("celeba32", None, "made up", complete=False), splits)
    few = [word for word in RUN if not word.startswith("features.run")]
    assert train(*few, *words, f"data.root={tmp_path}", f"output={tmp_path / 'out'}") == 2
    said = capsys.readouterr().err
    assert all(message in said for message in messages) and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "runs").exists()


def test_without_attributes_an_auto_encoder_is_the_feature_net(tmp_path: Path) -> None:
    splits = {split: Arrays(faces(40, 0).images) for split in ("train", "test")}
    write(CelebA(32, "prflow").folder(tmp_path), Description("celeba32", None, "made up", complete=False), splits)
    few = [word for word in RUN if not word.startswith("features.run")]
    words = [*few, "features=autoencoder32", "budget=smoke", f"data.root={tmp_path}", f"output={tmp_path / 'out'}"]
    assert train(*words) == 0
    assert "layer code" in RunFolder.of(tmp_path / "out", recipe(*words)).metrics["protocols"]["test/fid"]
