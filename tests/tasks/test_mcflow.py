"""MCFlow and PRFlow as runs: schedule, resuming after a kill, no leak of missing values, and what they learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lacuna.data.masks import Bernoulli
from lacuna.data.prepared import Arrays, PreparedData
from lacuna.files import read_json
from lacuna.imputers.linear import Linear
from lacuna.imputers.mcflow import MCFlow
from lacuna.imputers.nearest import Nearest
from lacuna.metrics.masked import rmse
from lacuna.runs.folder import RunFolder
from lacuna.runs.settings import Settings
from lacuna.tasks.common import stepping
from lacuna.tasks.mcflow.schedule import Schedule
from lacuna.tasks.mcflow.task import TrainMCFlow
from lacuna.training.loading import load, open_data
from lacuna.training.loggers import read_history
from tests.runs.real import contents, recipe, train

BASE = ("experiment=digits_impute", "features=none", "trainer.accelerator=cpu", "trainer.progress=false")
TINY = (
    *BASE,
    "imputer=prflow_digits",
    "imputer.training.epochs=5",
    "imputer.training.batch_size=64",
    "imputer.flow.widths=[16]",
    "imputer.net.widths=[16]",
    "imputer.training.gradients=leaky",
    "imputer.training.prior.rule=running",
    "data.train_images=150",
    "data.validation=100",
    "data.validation_images=20",
    "data.test_images=40",
    "trainer.checkpoint_seconds=0",
)


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


def words(root: Path, output: Path, *more: str) -> tuple[str, ...]:
    return (*TINY, *more, f"data.root={root}", f"output={output}")


def folder(root: Path, output: Path, *more: str) -> RunFolder:
    return RunFolder.of(output, recipe(*words(root, output, *more)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, digits_root: Path) -> RunFolder:
    output = tmp_path_factory.mktemp("whole")
    assert train(*words(digits_root, output)) == 0
    return folder(digits_root, output)


def test_history_model_and_metrics_of_a_run(whole: RunFolder) -> None:
    history = read_history(whole.path / "metrics.jsonl")
    assert [row["train/refreshes"] for row in history] == [0, 0, 1, 1, 2]
    logged = {"train/loss", "train/nll", "train/reconstruction", "train/prior", "train/prior_weight"}
    assert all(logged <= row.keys() for row in history)
    assert history[-1]["train/prior_weight"] > 0 and "validation/rmse" in history[-1]
    model = load(whole)
    assert isinstance(model, MCFlow) and len(model.stages) == 2
    assert 0 < whole.metrics["metrics"]["test/rmse"] < 0.5


@pytest.mark.parametrize("step", [1, 6, 13])
def test_a_resumed_run_is_bit_identical(
    step: int, whole: RunFolder, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three batches an epoch: in the first epoch, right after the first refresh, and in the middle after the second."""
    original, calls = TrainMCFlow.step, [0]

    def mortal(self: TrainMCFlow, batch: object, kind: object) -> torch.Tensor:
        if calls[0] == step:
            raise Killed
        calls[0] += 1
        return original(self, batch, kind)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(TrainMCFlow, "step", mortal)
        patch.setattr(stepping, "CHUNK_SECONDS", 0)
        with pytest.raises(Killed):
            train(*words(digits_root, tmp_path))
    run = folder(digits_root, tmp_path)
    assert run.resumable and not run.finished
    assert train(*words(digits_root, tmp_path)) == 0
    assert contents(run.path) == contents(whole.path)


FROZEN = (
    "imputer.training.prior.rule=frozen",
    "imputer.training.prior.weight=0.1",
    "imputer.training.prior.warm_up=1",
    "imputer.training.epochs=4",
)
PLANS = {
    "measured lambda, leak": (*FROZEN,),
    "measured lambda, clean": (*FROZEN, "imputer.training.gradients=clean"),
    "MCFlow": ("imputer=mcflow_digits", "imputer.training.prior.rule=fixed", *FROZEN[3:]),
}


@pytest.mark.parametrize("plan", PLANS)
def test_refreshes_and_a_frozen_lambda_survive_kills(
    plan: str, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed repeatedly: in every epoch, around the warm-up and the refresh, and in the refresh itself."""
    chosen = PLANS[plan]
    assert train(*words(digits_root, tmp_path / "whole", *chosen)) == 0
    step, refresh, calls = TrainMCFlow.step, TrainMCFlow._refresh, {"steps": 0, "refreshes": 0}

    def dying_step(self: TrainMCFlow, batch: object, kind: object) -> torch.Tensor:
        calls["steps"] += 1
        if calls["steps"] in (3, 5, 9, 12):  # counted through all attempts, so that each gets further
            raise Killed
        return step(self, batch, kind)  # type: ignore[arg-type]

    def dying_refresh(self: TrainMCFlow) -> None:
        calls["refreshes"] += 1
        refresh(self)
        if calls["refreshes"] == 1:
            raise Killed

    there, attempts = words(digits_root, tmp_path / "cut", *chosen), 0
    with monkeypatch.context() as patch:
        patch.setattr(TrainMCFlow, "step", dying_step)
        patch.setattr(stepping, "CHUNK_SECONDS", 0)
        patch.setattr(TrainMCFlow, "_refresh", dying_refresh)
        while True:
            try:
                assert train(*there) == 0
                break
            except Killed:
                attempts += 1
    assert attempts == 5 and calls["refreshes"] == 2
    whole, cut = (folder(digits_root, tmp_path / where, *chosen) for where in ("whole", "cut"))
    assert contents(cut.path) == contents(whole.path)
    weights = [row.get("train/prior_weight") for row in read_history(whole.path / "metrics.jsonl")]
    if plan != "MCFlow":  # measured over the first epoch, then never again
        assert weights[0] == 0 and weights[1] > 0 and weights[1:] == weights[1:2] * 3


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_values_do_not_leak(
    split: str, whole: RunFolder, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise at missing pixels of training images changes nothing; of test images, the metrics only."""
    original = PreparedData.split

    def tampered(self: PreparedData, name: str) -> Arrays:
        arrays = original(self, name)
        if name != split:
            return arrays
        shown = Bernoulli(0.6)(torch.arange(len(arrays.images)), (1, 8, 8), seed=0, split=name).numpy()
        chosen = ~shown if name == "test" else ~shown & trained(arrays)
        noise = np.random.default_rng(9).integers(0, 256, arrays.images.shape, dtype=np.uint8)
        return Arrays(np.where(chosen, noise, arrays.images), arrays.labels, arrays.observed)

    where = Settings(whole.path.parents[1], digits_root, download=False, trainer={"accelerator": "cpu"})
    train_positions = open_data(whole.recipe, where).positions("train")[1]

    def trained(arrays: Arrays) -> np.ndarray:
        return np.isin(np.arange(len(arrays.images)), train_positions)[:, None, None, None]

    monkeypatch.setattr(PreparedData, "split", tampered)
    assert train(*words(digits_root, tmp_path)) == 0
    clean, other = contents(whole.path), contents(folder(digits_root, tmp_path).path)
    assert {name for name in clean if clean[name] != other[name]} == ({"metrics.json"} if split == "test" else set())


def test_an_infinite_loss_ends_the_run_and_keeps_the_last_finite_checkpoint(
    digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrainMCFlow.step

    def exploding(self: TrainMCFlow, batch: object, kind: object) -> torch.Tensor:
        if self.current_epoch == 3:
            with torch.no_grad():
                self.model.net.net.layers[0].weight.fill_(float("inf"))  # type: ignore[union-attr,operator]
        return original(self, batch, kind)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(TrainMCFlow, "step", exploding)
        assert train(*words(digits_root, tmp_path)) != 0
    error = capsys.readouterr().err
    assert "epoch 3" in error and "imputer.training.lr" in error and "Traceback" not in error
    run = folder(digits_root, tmp_path)
    assert read_json(run.path / "status.json")["state"] == "failed" and run.resumable
    kept = torch.load(run.checkpoints / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in kept.values())
    assert train(*words(digits_root, tmp_path)) == 0  # and from there it goes on


def test_validation_images_pass_the_same_stages_as_new_images(whole: RunFolder, digits_root: Path) -> None:
    """Up to the half precision in which their imputations are stored."""
    data = open_data(whole.recipe, Settings(whole.path.parents[1], digits_root, False, {"accelerator": "cpu"}))
    batch = data.validation.batch(torch.arange(len(data.validation)))
    filled = load(whole).impute(batch.observed, batch.mask)  # type: ignore[operator]
    validated = read_history(whole.path / "metrics.jsonl")[-1]["validation/rmse"]
    assert validated == pytest.approx(float(rmse(filled, batch.truth, ~batch.mask)), abs=2e-4)


def test_the_published_schedule() -> None:
    schedule = Schedule({"refresh": {"first": 2, "factor": 2, "reset_flow": True}, "stop": None})
    found = []
    for epoch in range(1, 501):
        assert not schedule.done(1.0)
        if schedule.refresh_due(epoch):
            found.append(epoch)
            schedule.refreshed()
    assert found == [2, 4, 8, 16, 32, 64, 128, 256]


def test_training_ends_when_j2_no_longer_improves() -> None:
    """Not before two refreshes here, nor at the jump after one; then 4 epochs without 1 % of improvement end it."""
    spec = {
        "refresh": {"first": 1, "factor": 2, "reset_flow": True},
        "stop": {"improvement": 0.01, "patience": 4, "share": 0.2, "refreshes": 2},
    }
    schedule, copy = Schedule(spec), Schedule(spec)
    assert not any(schedule.done(1.0) for _ in range(50))
    schedule.refreshed()
    assert not any(schedule.done(1.0) for _ in range(50))
    schedule.refreshed()
    falling = [3 * 0.98**k for k in range(30)]
    assert not any(schedule.done(value) for value in falling)
    copy.load_training_state(schedule.training_state())
    level = falling[-1]  # 20 % of the epochs are more than 4 by now: 8 of 38
    for one in (schedule, copy):
        assert [one.done(level) for _ in range(8)].index(True) == 7


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("imputer.training.refresh.factor=1", "refresh.factor"),
        ("imputer.training.refresh.first=0", "refresh.first"),
        ("imputer.training.stop.patience=-1", "stop.patience"),
        ("imputer.training.refresh.reset_flow=null", "refresh.reset_flow"),
        ("imputer.training.gradients=both", "gradients"),
        ("imputer.training.reconstruction_weight=0", "reconstruction_weight"),
        ("mask=none", "mask=none"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(
    word: str, name: str, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*words(digits_root, tmp_path, word)) != 0
    assert name in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("imputer", ["mcflow_digits", "prflow_digits"])
def test_it_beats_its_initial_imputation(imputer: str, digits_root: Path, tmp_path: Path) -> None:
    """And linear interpolation; on test images, with two thirds of the published refreshes."""
    chosen = (
        *BASE,
        f"imputer={imputer}",
        "imputer.training.epochs=40",
        f"data.root={digits_root}",
        f"output={tmp_path}",
    )
    assert train(*chosen) == 0
    run = RunFolder.of(tmp_path, recipe(*chosen))
    where = Settings(tmp_path, digits_root, download=False, trainer={"accelerator": "cpu"})
    test = open_data(run.recipe, where).test
    batch = test.batch(torch.arange(len(test)))
    hidden = ~batch.mask
    simple = min(
        float(rmse(each.impute(batch.observed, batch.mask), batch.truth, hidden)) for each in (Nearest(), Linear())
    )
    filled = load(run).impute(batch.observed, batch.mask)  # type: ignore[operator]
    assert float(rmse(filled, batch.truth, hidden)) == pytest.approx(run.metrics["metrics"]["test/rmse"], abs=1e-4)
    assert run.metrics["metrics"]["test/rmse"] < 0.85 * simple
