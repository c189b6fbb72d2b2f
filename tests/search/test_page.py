"""The page says what the sweep found, with few trials and with many, and is right about what mattered."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lacuna.errors import LacunaError
from lacuna.runs.recipe import Recipe
from lacuna.search import pictures
from lacuna.search.page import best_rows, importance, write_sweep_page
from lacuna.search.problem import Problem
from lacuna.search.study import Study
from lacuna.search.view import short_names
from tests.search.standin import Analytic, Objective, bowl, problem, sweep


@pytest.fixture
def make(digits_root: Path, tmp_path: Path) -> Any:
    return lambda *words: problem(digits_root, tmp_path / "out", "experiment=digits_zero", *words)


def page(searched: Problem, trials: int, objective: Objective = bowl, command: str | None = "python train.py") -> str:
    if trials:
        sweep(searched, Analytic(objective), trials)
    with Study.opened(searched) as study:
        return write_sweep_page(searched, study, command).read_text()


@pytest.mark.parametrize(("trials", "figures"), [(0, 0), (1, 2), (2, 2), (3, 2), (12, 3)])
def test_with_few_and_with_many_trials(trials: int, figures: int, make: Any) -> None:
    searched = make()
    text = page(searched, trials)
    assert text.count("<figure>") == figures == text.count("data:image/png;base64,")
    assert f"{trials} finished trials" in text and searched.name in text
    assert text.count("<tr>") == (trials + 1 if trials else 0)
    assert "python train.py" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)


def test_the_table_has_the_best_first_and_the_command_is_escaped(make: Any) -> None:
    searched = make("seeds=2")
    text = page(searched, 5, command="python train.py 'a=<b>'")
    assert "python train.py &#x27;a=&lt;b&gt;&#x27;" in text
    with Study.opened(searched) as study:
        rows = best_rows(searched, study, 3)
        assert len(rows) == 3
    values = [row["validation/accuracy"] for row in rows]
    assert values == sorted(values, reverse=True)
    # the two seeds differ by a thousandth: their sample standard deviation
    assert all(row["± over seeds"] == pytest.approx(0.001 / 2**0.5) for row in rows)
    assert set(rows[0]) == {"trial", "validation/accuracy", "± over seeds", "lr", "batch_size", "dropout", "hidden"}


def test_failed_trials_are_named_with_their_reason(make: Any) -> None:
    def fragile(recipe: Recipe) -> float:
        if recipe.config["net"]["training"]["lr"] > 2e-3:
            raise LacunaError("first line\nThe loss became <nan>.")
        return bowl(recipe)

    text = page(make(), 8, fragile)
    assert "Failed trials" in text and "The loss became &lt;nan&gt;." in text and "first line" not in text


def test_the_only_parameter_that_matters_is_the_most_important(make: Any) -> None:
    def only_dropout(recipe: Recipe) -> float:
        return -float((recipe.config["net"]["dropout"] - 0.1) ** 2)

    searched = make()
    sweep(searched, Analytic(only_dropout), 25)
    with Study.opened(searched) as study:
        shares = importance(searched, study)
    assert next(iter(shares)) == "net.dropout" and shares["net.dropout"] > 0.8
    assert sum(shares.values()) == pytest.approx(1) and len(shares) == 4


def test_importance_needs_something_to_explain(make: Any) -> None:
    flat = make()
    sweep(flat, Analytic(lambda recipe: 0.5), 8)
    with Study.opened(flat) as study:
        assert importance(flat, study) == {}
    one = make("net.dropout=0.1", "net.hidden=16", "net.training.batch_size=16")
    assert page(one, 6).count("<figure>") == 2


def test_outliers_do_not_hide_the_rest(make: Any) -> None:
    values = [1.0, 1.1, 1.2, 1.3, 1e9]
    low = make("search.direction=minimize")
    assert pictures.clipped(low, values)[:4] == values[:4] and pictures.clipped(low, values)[4] < 3
    # the best is never touched, whichever side it is on
    assert pictures.clipped(make(), values) == values
    assert pictures.clipped(make(), [-v for v in values])[4] > -3


def test_pictures_are_transparent_and_not_empty(make: Any) -> None:
    searched = make()
    found, _ = sweep(searched, Analytic(), 6)
    for png in (
        pictures.history(searched, found),
        pictures.bars({"a": 0.9, "b": 0.1}),
        pictures.slices(searched, found),
    ):
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
        assert 0 < (pixels[..., 3] > 0).mean() < 0.5
        assert (pixels[0, 0] == 255).all() or pixels[0, 0, 3] == 0


def test_short_names_tell_keys_apart() -> None:
    keys = ["net.training.lr", "density.training.lr", "net.hidden", "lr"]
    assert short_names(keys) == {
        "net.training.lr": "net.training.lr",
        "density.training.lr": "density.training.lr",
        "net.hidden": "hidden",
        "lr": "lr",
    }
