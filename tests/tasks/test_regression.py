"""The imputer trained on held-out pixels: its input, its loss and its accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lacuna.imputers.linear import Linear
from lacuna.imputers.simple import Mean
from lacuna.metrics.masked import rmse
from lacuna.runs.folder import RunFolder
from lacuna.runs.settings import Settings
from lacuna.tasks.common.models import Sizes
from lacuna.tasks.regression import TrainRegression
from lacuna.training.loading import load, open_data
from tests.runs.real import recipe, train

BASE = ("experiment=digits_impute", "imputer=unet_digits", "features=none", "trainer.accelerator=cpu")
SMALL = ("trainer.progress=false", "imputer.net.stages=[[16,1],[32,1]]")


def test_its_loss_is_the_error_at_held_out_pixels(digits_root: Path, tmp_path: Path) -> None:
    words = (*BASE, *SMALL, f"data.root={digits_root}", f"output={tmp_path}")
    where = Settings(tmp_path, digits_root, download=False, trainer={"accelerator": "cpu"})
    made = recipe(*words)
    data = open_data(made, where)
    task = TrainRegression(made.config, Sizes(data.shape, data.classes, 1), {}, data)
    batch = data.train.batch(torch.arange(32))
    seen: list[torch.Tensor] = []
    original = task.model.net.forward

    def watched(observed: torch.Tensor, mask: torch.Tensor) -> object:
        seen.extend([observed, mask])
        return original(observed, mask)

    task.model.net.forward = watched  # type: ignore[method-assign,assignment]
    loss, count = task.loss(batch)
    observed, shown = seen
    scored = batch.mask & ~shown
    assert (shown & ~batch.mask).sum() == 0 and scored.any() and (observed[~shown] == 0).all()
    share = (scored.flatten(1).sum(1) / batch.mask.flatten(1).sum(1)).tolist()
    assert min(share) < 0.25 and max(share) > 0.4  # little of some images and much of others
    predicted = task.model.predict(batch.observed, shown)
    expected = ((predicted - batch.observed)[scored] ** 2).mean()
    torch.testing.assert_close(loss, expected)
    assert int(count) == int(scored.sum())


@pytest.mark.slow
def test_it_beats_interpolation_and_the_mean_image(digits_root: Path, tmp_path: Path) -> None:
    words = (*BASE, *SMALL, "imputer.training.epochs=30", "imputer.training.lr_milestones=[[20,3e-4]]")
    words = (*words, f"data.root={digits_root}", f"output={tmp_path}")
    assert train(*words) == 0
    run = RunFolder.of(tmp_path, recipe(*words))
    data = open_data(run.recipe, Settings(tmp_path, digits_root, download=False, trainer={"accelerator": "cpu"}))
    batch, donors = data.test.batch(torch.arange(len(data.test))), data.train.batch(torch.arange(len(data.train)))
    mean = Mean()
    mean.fit(donors.observed, donors.mask)
    hidden = ~batch.mask
    simple = min(float(rmse(each.impute(batch.observed, batch.mask), batch.truth, hidden)) for each in (mean, Linear()))
    filled = load(run).impute(batch.observed, batch.mask)  # type: ignore[operator]
    assert float(rmse(filled, batch.truth, hidden)) < 0.85 * simple
