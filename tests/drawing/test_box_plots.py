"""Box plots show what they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from lacuna.drawing.box_plots import COLOURS, box_plot
from lacuna.errors import LacunaError


def box(picture: Image.Image, colour: str) -> np.ndarray:
    """Where a box of this colour is, (H, W) bool; boxes are drawn at 70 % on white."""
    wanted = 0.7 * np.array(ImageColor.getrgb(colour)) + 0.3 * 255
    found: np.ndarray = (np.abs(np.asarray(picture, float) - wanted) < 3).all(2)
    return found


def area(picture: Image.Image, colour: str) -> int:
    return int(box(picture, colour).sum())


def row(picture: Image.Image, colour: str) -> float:
    return float(np.nonzero(box(picture, colour))[0].mean())


def test_larger_values_stand_higher_and_wider_spread_is_taller(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    low, high = (5 + rng.random(500)).tolist(), (20 + 6 * rng.random(500)).tolist()
    picture = box_plot({"a": {"low": low, "high": high}, "b": {"low": low}}, label="ms", path=tmp_path / "plot.png")
    low_colour, high_colour = COLOURS[:2]
    assert row(picture, high_colour) < row(picture, low_colour), "rows are counted from the top"
    assert area(picture, high_colour) > area(picture, low_colour)
    with Image.open(tmp_path / "plot.png") as stored:
        assert stored.format == "PNG" and stored.size == picture.size
    only = box_plot({"a": {"low": low}}, label="ms")
    assert only.width < picture.width
    assert area(only, COLOURS[0]) and not area(only, COLOURS[1]), "no second series, nothing in its colour"


def test_nothing_to_draw_is_one_sentence() -> None:
    for empty in ({}, {"a": {}}):
        with pytest.raises(LacunaError, match="at least one series"):
            box_plot(empty, label="ms")
