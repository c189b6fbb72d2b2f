"""No leak: missing values never change training or evaluation, bit for bit.

The same recipes are run twice on the same stored data; the second time every missing value of the arrays that are read
is replaced by noise, right where they are read. Weights, histories and metrics must be equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lacuna.config.compose import compose
from lacuna.config.paths import CONFIGS
from lacuna.data.incomplete import Batch
from lacuna.data.masks import Square
from lacuna.data.prepared import Arrays, PreparedData
from lacuna.runs.folder import RunFolder
from lacuna.runs.prepare import prepare_data
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.runs.settings import Settings
from lacuna.tasks.dmfa import TrainDMFA
from lacuna.training.loading import make_task, open_data
from lacuna.training.loggers import read_history
from lacuna.training.run import execute

STEMS = ["misconv", "misconv stem.formula=authors", "mfa_mean", "mask", "partial", "zero", "mean", "knn", "acflow"]
TINY = [
    "data=arrays",
    "mask=square",
    "density.training.epochs=2",
    "density.training.mse_epochs=1",
    "density.net.filters=[4,4]",
    "density.net.kernels=[3,3]",
    "density.components=2",
    "flow.training.epochs=2",
    "flow.width=4",
    "net.training.epochs=2",
    "net.stages=[[4,1]]",
    "stem.filters=4",
]
SHALLOW = ("density=smfa_digits", "density.components=3", "density.factors=2", "density.training.epochs=2")
Tamper = Callable[[str, Arrays], Arrays]


def user_file(folder: Path, own: int, validation: int = 12) -> Path:
    """Colour images in the user's own file; ``own`` channels in the masks of what the user lacks (0 = nothing)."""
    rng, path = np.random.default_rng(0), folder / f"own{own}.npz"
    arrays = {}
    for split, n in (("", 40), ("validation_", validation), ("test_", 12)):
        if not n:
            continue
        arrays[f"{split}images"] = rng.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)
        arrays[f"{split}labels"] = np.arange(n) % 3
        if own:
            arrays[f"{split}observed"] = rng.random((n, own, 8, 8)) < 0.8
            arrays[f"{split}observed"][:, :, 0, 0] = True
    np.savez(path, **arrays)
    return path


@pytest.fixture(
    scope="module",
    params=[0, pytest.param(1, marks=pytest.mark.slow), 3],
    ids=["complete", "own holes", "own holes per channel"],
)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_file(tmp_path_factory.mktemp("data"), request.param)


@pytest.fixture(scope="module")
def clean_output(file: Path) -> Path:
    """Output folder of the runs on the unchanged file, which the tests of one file share."""
    return file.parent / "clean"


def recipe(file: Path, *overrides: str) -> Recipe:
    paths = [f"data.path={file}", f"data.root={file.parent}"]
    own = "density=smfa_digits" in overrides  # what makes a network tiny is none of its keys
    tiny = [word for word in TINY if not (own and word.startswith("density."))]
    config = compose(CONFIGS, "train", [*tiny, *paths, *overrides])
    return resolve(config, prepare_data(config))


def settings(file: Path, output: Path) -> Settings:
    return Settings(output, file.parent, download=False, trainer={"accelerator": "cpu", "progress": False})


def run_all(file: Path, output: Path, *stems: str, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every run that the stems (with further overrides) need, and what it left behind: weights, history, metrics.

    Runs that stand in the folder already are not trained again.
    """
    found: dict[str, Any] = {}
    wanted = [recipe(file, *more, *f"stem={stem}".split()) for stem in stems or STEMS]
    for one in wanted:
        execute(one, settings(file, output), announce=False)
    for folder in sorted({output / "runs" / one.name for made in wanted for one in with_needs(made)}):
        for key, tensor in load_file(folder / "model.safetensors").items():
            found[f"{folder.name}/{key}"] = tensor
        for number, row in enumerate(read_history(folder / "metrics.jsonl")):
            found |= {f"{folder.name}/{number}/{key}": value for key, value in row.items() if "time" not in key}
        metrics: Mapping[str, float] = RunFolder(folder).metrics["metrics"]
        found |= {f"{folder.name}/{key}": value for key, value in metrics.items()}
    return found


def with_needs(made: Recipe) -> list[Recipe]:
    return [made, *(one for needed in made.prerequisites.values() for one in with_needs(needed))]


def differences(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    assert a.keys() == b.keys()
    return {k for k in a if not (torch.equal(a[k], b[k]) if isinstance(a[k], Tensor) else a[k] == b[k])}


def noise_where(chosen: np.ndarray, arrays: Arrays) -> Arrays:
    noise = np.random.default_rng(99).integers(0, 256, arrays.images.shape, dtype=np.uint8)
    return Arrays(np.where(chosen, noise, arrays.images), arrays.labels, arrays.observed)


def visible(split: str, arrays: Arrays) -> np.ndarray:
    """Observed pixels of the stored images of a split: by the recipe's mask scheme and the user's own masks."""
    index = torch.arange(len(arrays.images))
    observed = Square()(index, tuple(arrays.images.shape[1:]), seed=0, split=split).numpy()
    return observed if arrays.observed is None else observed & arrays.observed


def noise_behind(split: str) -> Tamper:
    """Noise in place of the missing values of one split."""
    return lambda name, arrays: noise_where(~visible(name, arrays), arrays) if name == split else arrays


def tampering(monkeypatch: pytest.MonkeyPatch, tamper: Tamper) -> None:
    original = PreparedData.split
    monkeypatch.setattr(PreparedData, "split", lambda self, name: tamper(name, original(self, name)))


def test_missing_values_of_training_images_change_nothing(file, clean_output, tmp_path, monkeypatch):
    clean = run_all(file, clean_output)
    assert sum("stem" in key for key in clean) > len(STEMS) and any("net.mean" in key for key in clean)
    assert any("-flow-" in key and "alpha" in key for key in clean)
    tampering(monkeypatch, noise_behind("train"))
    assert differences(clean, run_all(file, tmp_path / "tampered")) == set()


def test_missing_values_of_training_images_change_nothing_in_em(file, clean_output, tmp_path, monkeypatch):
    """Neither the mixture, nor MisConv with it, nor their metrics; unless it is fitted to complete images."""
    clean = run_all(file, clean_output, "misconv", "mfa_mean", more=SHALLOW)
    assert any("smfa" in key and key.endswith("/factors") for key in clean)
    complete = run_all(file, clean_output, "misconv", more=(*SHALLOW, "density.complete=true"))

    def tamper(split: str, arrays: Arrays) -> Arrays:
        return noise_where(~visible(split, arrays), arrays) if split == "train" else arrays

    tampering(monkeypatch, tamper)
    assert differences(clean, run_all(file, tmp_path / "tampered", "misconv", "mfa_mean", more=SHALLOW)) == set()
    other = run_all(file, tmp_path / "other", "misconv", more=(*SHALLOW, "density.complete=true"))
    assert any(key.endswith("/factors") for key in differences(complete, other))


def test_missing_values_of_test_images_change_only_metrics(file, clean_output, tmp_path, monkeypatch):
    clean = run_all(file, clean_output, "misconv", "knn", "acflow")

    def tamper(split: str, arrays: Arrays) -> Arrays:
        return arrays if split == "train" else noise_where(~visible(split, arrays), arrays)

    tampering(monkeypatch, tamper)
    changed = differences(clean, run_all(file, tmp_path / "tampered", "misconv", "knn", "acflow"))
    # densities and flows are evaluated on missing pixels
    evaluated = ("dmfa", "-flow-", "/complete/")
    assert all(any(where in key for where in evaluated) for key in changed), changed
    assert all(any(where in key for key in changed) for where in evaluated)
    assert not any("weight" in key or "bias" in key or "train/loss" in key for key in changed)


GENERATE = ("task=generate", "net=wae_digits", "net.training.epochs=2", "net.stages=[[4,1]]", "features=none")


def test_missing_values_change_no_auto_encoder(file, clean_output, tmp_path, monkeypatch):
    """Missing values of training images change nothing, those of test images only metrics of reconstructions."""
    stems = ("misconv", "zero", "partial")
    clean = run_all(file, clean_output, *stems, more=GENERATE)
    assert any("wae.discriminator" in key for key in clean) and any("train/adversarial" in key for key in clean)
    for split in ("train", "test"):
        with monkeypatch.context() as patch:
            tampering(patch, noise_behind(split))
            changed = differences(clean, run_all(file, tmp_path / f"tampered {split}", *stems, more=GENERATE))
        assert all("/test/" in key or "/complete/" in key for key in changed), changed
        assert bool(changed) == (split == "test")


def test_the_feature_net_changes_only_metrics(tmp_path, monkeypatch):
    """It is trained on complete images, so the FID, and nothing else, may change with their missing values."""
    file = user_file(tmp_path, 0)
    more = (*GENERATE[:-1], "features=lenet_digits", "features.run.net.training.epochs=1")
    clean = run_all(file, tmp_path / "clean", "misconv", more=more)
    tampering(monkeypatch, noise_behind("train"))
    changed = differences(clean, run_all(file, tmp_path / "tampered", "misconv", more=more))
    assert changed and all("lenet" in key or "/test/fid" in key for key in changed), changed


def test_pixels_missing_in_the_users_data_have_no_truth(tmp_path, monkeypatch):
    """Pixels without truth do not affect metrics, not even those on "complete" images."""
    file = user_file(tmp_path, 3)
    clean = run_all(file, tmp_path / "clean", "misconv")
    tampering(monkeypatch, lambda split, arrays: noise_where(~arrays.observed, arrays))
    assert differences(clean, run_all(file, tmp_path / "tampered", "misconv")) == set()


def test_observed_values_do_matter(tmp_path, monkeypatch):
    """The same comparison detects a single changed observed value."""
    file = user_file(tmp_path, 0)
    clean = run_all(file, tmp_path / "clean", "zero")

    def tamper(split: str, arrays: Arrays) -> Arrays:
        if split != "train":
            return arrays
        images = arrays.images.copy()
        images[(0, *np.argwhere(visible(split, arrays)[0].repeat(3, 0))[0])] ^= 128
        return Arrays(images, arrays.labels, arrays.observed)

    tampering(monkeypatch, tamper)
    changed = differences(clean, run_all(file, tmp_path / "tampered", "zero"))
    assert any("stem.conv.weight" in key for key in changed)


@pytest.mark.parametrize("own", [0, 3])
def test_the_input_of_the_density_has_no_held_out_pixels(own, tmp_path, monkeypatch):
    """Neither missing nor held-out pixels are in the input; only held-out pixels are in the loss."""
    file = user_file(tmp_path, own)
    wanted = recipe(file, "task=density")
    where = settings(file, tmp_path)
    task = make_task(wanted, where, open_data(wanted, where))
    assert isinstance(task, TrainDMFA)
    calls: list[tuple[Tensor, Tensor]] = []
    targets: list[Tensor] = []
    task.model.register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
    original = type(task.model(torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool))).log_prob

    def log_prob(self, x: Tensor, where: Tensor) -> Tensor:
        targets.append(where)
        return original(self, x, where)

    monkeypatch.setattr("lacuna.mfa.MFA.log_prob", log_prob)
    batch = task.data.train.batch(torch.arange(10))
    calls.clear()
    held_out = []
    for epoch in (0, 0, 1):
        monkeypatch.setattr(TrainDMFA, "current_epoch", epoch)
        loss, count = task.loss(batch)
        (observed, mask), chosen = calls.pop(), targets.pop()
        wide = batch.mask.expand_as(batch.observed)
        assert loss.isfinite() and count == chosen.sum()
        assert not (mask & chosen).any() and torch.equal(mask | chosen, wide)
        assert (observed[~mask.expand_as(observed)] == 0).all()
        assert torch.equal(observed[mask.expand_as(observed)], batch.observed[mask.expand_as(observed)])
        assert chosen.flatten(1).any(1).float().mean() > 0.7, "nearly every image has held-out pixels"
        held_out.append(chosen)
    assert torch.equal(held_out[0], held_out[1]) and not torch.equal(held_out[0], held_out[2])


def test_a_training_batch_holds_no_truth(file):
    wanted = recipe(file, "stem=zero")
    data = open_data(wanted, settings(file, file.parent))
    batch = next(iter(data.train_dataloader()))
    assert type(batch) is Batch and not hasattr(batch, "truth")
    assert (batch.observed[~batch.mask.expand_as(batch.observed)] == 0).all()
