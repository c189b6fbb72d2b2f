from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lacuna.drawing.pictures import (
    GAP,
    MARGIN,
    MISSING_COLOURS,
    Row,
    colour_scale,
    first_layer_grid,
    image_grid,
    row_picture,
)
from lacuna.errors import LacunaError

IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
MASK = torch.ones(3, 1, 8, 8, dtype=torch.bool)
MASK[:, :, 2:5, 3:7] = False


def rightmost(picture: Image.Image, rows: int, scale: int) -> np.ndarray:
    """The last image of each row, (rows, 8*scale, 8*scale, 3), cut out of a grid without a colour bar."""
    pixels, side = np.asarray(picture.convert("RGB")), 8 * scale
    left = pixels.shape[1] - MARGIN - side
    tops = [MARGIN + r * (side + GAP) for r in range(rows)]
    return np.stack([pixels[top : top + side, left : left + side] for top in tops])


def test_pixels_are_shown_as_they_are_and_holes_in_their_own_colour(tmp_path: Path) -> None:
    path = tmp_path / "new" / "grid.png"
    made = image_grid([("truth", IMAGES), Row("incomplete", IMAGES, MASK)], scale=4, path=path)
    for picture in (made, Image.open(path)):
        truth, incomplete = rightmost(picture, 2, 4)
        expected = (IMAGES[2, 0].numpy() * 255).round().astype(np.uint8).repeat(4, 0).repeat(4, 1)
        assert (truth == expected[..., None]).all()
        missing = ~MASK[2, 0].numpy().repeat(4, 0).repeat(4, 1)
        assert (incomplete[~missing] == truth[~missing]).all()
        colours = {tuple(int(v) for v in colour) for colour in np.unique(incomplete[missing], axis=0)}
        assert colours == {tuple(int(v) for v in colour) for colour in MISSING_COLOURS}
    assert not any(r == g == b for r, g, b in MISSING_COLOURS)
    assert path.stat().st_size < 10_000


def test_what_is_missing_in_one_channel_only_leaves_the_others() -> None:
    colour, mask = torch.full((1, 3, 8, 8), 0.2), torch.ones(1, 3, 8, 8, dtype=torch.bool)
    mask[:, 1] = False
    (shown,) = rightmost(image_grid([Row("x", colour, mask)], scale=2), 1, 2)
    assert (shown[..., [0, 2]] == 51).all() and set(np.unique(shown[..., 1])) == set(MISSING_COLOURS[:, 1])


def test_nan_in_a_hole_is_harmless_and_rows_may_differ_in_length() -> None:
    hidden = torch.where(MASK, IMAGES, float("nan"))
    rows: list[Row | tuple[str, torch.Tensor]] = [
        Row("a", hidden, MASK),
        ("b", IMAGES[:1]),
        Row("variance", IMAGES, heat=True),
    ]
    plain = image_grid(rows[:2], scale=2)
    assert image_grid(rows, scale=2, columns=["x", "y", "z"]).size[0] > plain.size[0]


def test_heat_map_uses_the_stated_limits() -> None:
    low, high = (image_grid([Row("h", IMAGES * 0 + v, heat=True, limits=(0, 1))], scale=2) for v in (0.0, 1.0))
    brightness = [np.asarray(picture)[MARGIN + 4, -MARGIN - 80].sum() for picture in (low, high)]
    assert brightness[0] < brightness[1]


def test_a_row_is_drawn_as_in_a_grid() -> None:
    for row in (Row("x", IMAGES, MASK), Row("x", IMAGES, heat=True, limits=(0, 0.5))):
        grid, alone = np.asarray(image_grid([row], scale=4)), np.asarray(row_picture(row, scale=4))
        assert alone.shape == (8 * 4, 3 * 8 * 4 + 2 * GAP, 3)
        left = int(np.argwhere((grid[MARGIN : MARGIN + 32] == alone[:, :1]).all((0, 2)))[0, 0])
        assert (grid[MARGIN : MARGIN + 32, left : left + alone.shape[1]] == alone).all()


def test_a_colour_scale_says_whether_there_is_more() -> None:
    plain, more = (np.asarray(colour_scale((0, 0.25), "error", over=over)) for over in (False, True))
    assert plain.shape[0] == more.shape[0] and plain.shape[1] < more.shape[1]
    inside, beyond = (
        np.asarray(image_grid([Row("h", IMAGES * 0 + v, heat=True, limits=(0, 0.5))], scale=4)) for v in (0.5, 0.6)
    )
    differing = np.argwhere((inside != beyond).any((0, 2)))  # in the number beside the bar, not in the maps
    assert differing.size and differing.min() > inside.shape[1] - MARGIN - 44


def test_first_layer_grid_has_one_scale(tmp_path: Path) -> None:
    features = torch.zeros(10, 6, 6)
    features[3] = 2.0
    path = tmp_path / "first.png"
    picture = np.asarray(first_layer_grid(features, scale=2, columns=5, path=path))
    assert (picture[MARGIN, MARGIN] == picture[MARGIN, MARGIN + 12 + GAP]).all()  # channels 0 and 1
    assert (picture[MARGIN, MARGIN] != picture[MARGIN, MARGIN + 3 * (12 + GAP)]).any()  # channel 3
    assert path.exists()
    first_layer_grid(features * 0, title="all the same")


def test_mistakes_are_named() -> None:
    with pytest.raises(LacunaError, match="at least one row"):
        image_grid([])
    with pytest.raises(LacunaError, match=r"Row 'x'.*\(N, 3, H, W\)"):
        image_grid([("x", torch.rand(2, 2, 8, 8))])
    with pytest.raises(LacunaError, match=r"a heat map is \(N, 1, H, W\)"):
        image_grid([Row("x", torch.rand(2, 3, 8, 8), heat=True)])
    with pytest.raises(LacunaError, match="first_layer_grid"):
        first_layer_grid(torch.rand(1, 2, 8, 8))
