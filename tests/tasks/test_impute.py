"""Imputers as runs: fitted or with a density, evaluated on missing pixels, loaded again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lacuna.data.masks import Bernoulli
from lacuna.data.prepared import PreparedData
from lacuna.data.sources.digits import Digits
from lacuna.imputers.simple import Mean
from lacuna.runs.folder import RunFolder
from lacuna.runs.settings import Settings
from lacuna.tasks.common.example_images import EXAMPLES
from lacuna.tasks.impute import Impute, ImputeTask
from lacuna.training.loading import load, make_task, open_data
from lacuna.verbs.command import verb
from tests.runs.real import recipe, train

RUN = (
    "task=impute",
    "mask=bernoulli",
    "imputer=mean",
    "features=none",
    "mask.rate=0.7",
    "data.train_images=96",
    "data.test_images=60",
    "density.training.epochs=1",
    "density.net.filters=[4,4]",
    "density.net.kernels=[3,3]",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)
JUDGED = (
    "features=lenet_digits",
    "features.run.net.training.epochs=40",
    "features.run.net.training.batch_size=16",
    "data.train_images=200",
)


def words(root: Path, output: Path, *more: str) -> tuple[str, ...]:
    return (*RUN, *more, f"data.root={root}", f"output={output}")


def run(root: Path, output: Path, *more: str) -> RunFolder:
    assert train(*words(root, output, *more)) == 0
    return RunFolder.of(output, recipe(*words(root, output, *more)))


def task_of(root: Path, output: Path, *more: str) -> ImputeTask:
    wanted = recipe(*words(root, output, *more))
    settings = Settings(output, root, download=False, trainer={"accelerator": "cpu"})
    task = make_task(wanted, settings, open_data(wanted, settings))
    assert isinstance(task, ImputeTask)
    return task


def stored(root: Path, split: str, n: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 1] and masks of a split, straight from the stored arrays."""
    arrays = PreparedData(Digits().folder(root)).split(split)
    rows = np.arange(n) if isinstance(n, int) else n
    masks = Bernoulli(0.7)(torch.from_numpy(rows), (1, 8, 8), seed=0, split=split).numpy()
    return arrays.images[rows] / 255, masks


@pytest.fixture(scope="module")
def mean(tmp_path_factory: pytest.TempPathFactory, digits_root: Path) -> RunFolder:
    return run(digits_root, tmp_path_factory.mktemp("mean"))


def test_the_error_is_that_of_missing_pixels_by_hand(mean, digits_root):
    """The mean over the training images in which a pixel is observed, against the truth of the test images, pooled."""
    rows = open_data(mean.recipe, Settings(data_root=digits_root)).positions("train")[1]
    images, observed = stored(digits_root, "train", rows)
    mean_image = np.nanmean(np.where(observed, images, np.nan), 0)
    truth, mask = stored(digits_root, "test", 60)
    errors = (np.broadcast_to(mean_image, truth.shape) - truth)[~mask]
    found = mean.metrics["metrics"]
    assert found["test/rmse"] == pytest.approx(math.sqrt((errors**2).mean()), rel=1e-6)
    assert found["test/mse"] == pytest.approx((errors**2).mean(), rel=1e-6)
    assert not any("nll" in name or "fid" in name or "scc" in name for name in found)
    assert (mean.pictures / "imputations.png").exists()


def test_it_keeps_examples_as_numbers(mean, digits_root):
    truth, mask = stored(digits_root, "test", EXAMPLES)
    with np.load(mean.pictures / "imputations.npz", allow_pickle=False) as file:
        kept = {name: file[name] for name in file.files}
    assert kept["truth"].shape == truth.shape and np.abs(kept["truth"] - truth).max() < 1 / 1020
    assert (np.broadcast_to(kept["mask"], mask.shape) == mask).all() and kept["known"].all()
    assert (kept["recovered"] == kept["truth"])[np.broadcast_to(mask, truth.shape)].all()
    images, masks = torch.from_numpy(truth).float(), torch.from_numpy(mask)
    made = load(mean).impute(torch.where(masks, images, 0), masks)
    assert np.abs(kept["recovered"] - made.numpy()).max() < 1 / 1020


def test_it_is_fitted_in_no_steps_and_loaded_as_it_was(mean, digits_root):
    assert not mean.recipe.training and not list(mean.checkpoints.glob("*"))
    imputer = load(mean)
    assert isinstance(imputer, Mean) and not imputer.training
    truth, mask = (torch.from_numpy(array) for array in stored(digits_root, "test", 60))
    imputed = imputer.impute(truth.float(), mask)
    assert torch.equal(imputed[mask], truth.float()[mask])
    assert float((imputed - truth)[~mask].square().mean().sqrt()) == pytest.approx(
        mean.metrics["metrics"]["test/rmse"], rel=1e-6
    )


def test_an_interrupted_run_comes_out_the_same(mean, digits_root, tmp_path, monkeypatch):
    class Killed(BaseException):
        """Stands for SIGKILL."""

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Impute, "draw", killed)
        with pytest.raises(Killed):
            train(*words(digits_root, tmp_path))
    again = run(digits_root, tmp_path)
    for name in ("metrics.json", "model.safetensors"):
        assert (again.path / name).read_bytes() == (mean.path / name).read_bytes()


def test_evaluate_with_another_mask(mean, digits_root):
    output = mean.path.parents[1]
    same = [f"run={mean.path.name}", f"output={output}", f"data.root={digits_root}", "trainer.accelerator=cpu"]
    evaluate = verb("evaluate", "lacuna.verbs.evaluate:main")
    assert evaluate(same) == 0
    assert evaluate([*same, "mask=bernoulli", "mask.rate=0.9"]) == 0
    records = [json.loads(path.read_text()) for path in (mean.path / "evaluations").glob("*.json")]
    found = {record["mask"]["rate"]: record["metrics"] for record in records}
    expected = {name.removeprefix("test/"): value for name, value in mean.metrics["metrics"].items()}
    assert found[0.7] == expected and found[0.9]["ssim"] < found[0.7]["ssim"]


def test_on_a_density_it_stores_no_weight_twice(digits_root, tmp_path):
    folder = run(digits_root, tmp_path, "imputer=density_mean")
    assert set(folder.recipe.prerequisites) == {"density"}
    assert not load_file(folder.path / "model.safetensors")
    imputer: Any = load(folder)
    density = RunFolder(folder.path.parent / folder.recipe.prerequisites["density"].name)
    weights = load_file(density.path / "model.safetensors")
    assert weights and all(torch.equal(imputer.density.state_dict()[name], w) for name, w in weights.items())
    # a density is evaluated by its most probable imputation, which with one component is the mean, on the same pixels
    expected = density.metrics["metrics"]["test/mse"]
    assert folder.metrics["metrics"]["test/mse"] == pytest.approx(expected, rel=1e-5)


def test_a_perfect_imputer_recovers_everything(digits_root, tmp_path, monkeypatch):
    worse = run(digits_root, tmp_path, *JUDGED).metrics["metrics"]
    task = task_of(digits_root, tmp_path, *JUDGED)
    assert 0 < worse["test/scc"] < 1 and worse["test/fid"] > 0.1
    monkeypatch.setattr(Impute, "impute", lambda self, batch: batch.truth)
    perfect = task.results()
    assert perfect["test/rmse"] == 0 and perfect["test/fid"] == pytest.approx(0, abs=1e-3)
    assert perfect["test/scc"] == 1 and perfect["test/ssim"] == pytest.approx(1)
    # what SCC divides by is the accuracy of the classifier's own run on complete test images
    network = next(RunFolder(path) for path in (tmp_path / "runs").glob("*lenet*"))
    true = network.metrics["metrics"]["complete/accuracy"]
    assert perfect["test/accuracy"] == pytest.approx(true)
    assert worse["test/scc"] == pytest.approx(worse["test/accuracy"] / true)
    assert f"{true:.4f}" in task.protocols["test/scc"] and network.path.name in task.protocols["test/scc"]
    assert "60 recovered images" in task.protocols["test/fid"]


def test_validation_computes_no_fid(digits_root, tmp_path):
    judged = (*JUDGED, "data.validation=60")
    run(digits_root, tmp_path, *judged)
    task = task_of(digits_root, tmp_path, *judged)
    task.prepare()
    assert {"rmse", "psnr"} <= task.validate().keys() and not {"fid", "scc"} & task.validate().keys()
    assert {"fid", "scc"} <= task.evaluate(task.data.validation).keys()


def test_complete_images_are_refused(digits_root, tmp_path, capsys):
    chosen = [word for word in words(digits_root, tmp_path, "mask=none") if not word.startswith("mask.rate")]
    assert train(*chosen) == 2
    assert "mask=bernoulli" in capsys.readouterr().err
