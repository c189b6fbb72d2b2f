"""The contact sheet: what it shows of each image, and how many."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lacuna.data.sources.depth import Scale
from lacuna.drawing.pictures import GAP, MISSING_COLOURS
from lacuna.inference import contact_sheet
from lacuna.inference.contact_sheet import Shown, write_sheet
from lacuna.inference.pictures import Picture

HATCHES = [tuple(colour) for colour in MISSING_COLOURS.tolist()]


def shown(height: int, width: int, dtype: type = np.uint8, top: float = 255, deviation: bool = False) -> Shown:
    values = (top * np.indices((height, width)).sum(0)[None] / (height + width)).astype(dtype)
    observed = np.ones((1, height, width), bool)
    observed[:, : height // 2] = False
    scale = Scale(np.dtype(dtype), 0, 255 if dtype == np.uint8 else 1)
    picture = Picture(Path(f"a {height} <b>.png"), np.where(observed, values, 0).astype(dtype), observed, scale, "L")
    return Shown(picture, values, np.where(observed, 0, 0.25) if deviation else None)


def pictures(page: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(x)))) for x in re.findall(r'base64,([^"]+)"', page)]


@pytest.mark.parametrize("size", [(16, 20), (100, 60), (700, 500)])
def test_it_shows_the_hole_and_what_filled_it(tmp_path, size) -> None:
    page = write_sheet(tmp_path, [shown(*size), shown(*size, deviation=True)], [("imputed", "2")], []).read_text()
    two, three = pictures(page)
    assert max(two.shape[0], (two.shape[1] - GAP) // 2) <= contact_sheet.SIDE
    width = (two.shape[1] - GAP) // 2
    upper, filled = two[: len(two) // 2 - 4, :width].reshape(-1, 3), two[:, width + GAP :].reshape(-1, 3)
    assert {tuple(colour) for colour in upper.tolist()} <= set(HATCHES)
    assert not {tuple(colour) for colour in filled.tolist()} & set(HATCHES)
    assert (two[len(two) // 2 + 4 :, :width] == two[len(two) // 2 + 4 :, width + GAP :]).all()
    assert three.shape[1] == 3 * width + 2 * GAP
    assert f"a {size[0]} &lt;b&gt;.png: {size[1]}x{size[0]}, grey uint8, 50 % missing" in page


def test_dim_floats_are_shown_from_their_least_to_their_largest_value(tmp_path) -> None:
    page = write_sheet(tmp_path, [shown(16, 16, np.float32, 0.004)], [], []).read_text()
    (picture,) = pictures(page)
    assert picture[-1, 33 : (picture.shape[1] - GAP) // 2].max() == 255 and "shown from" in page


def test_the_first_are_shown_and_failures_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(contact_sheet, "SHOWN", 2)
    page = write_sheet(tmp_path, [shown(8, 8)] * 3, [], ["x.png: broken", "y.png: broken", "z.png"]).read_text()
    assert len(pictures(page)) == 2 and "3 images failed" in page and "x.png: broken" in page and "and 1 more" in page
