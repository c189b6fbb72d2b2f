"""How an image and a mask file are read: EXIF orientation, alpha, values of masks, pages; and resizing with holes."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from lacuna.data.sources.decoding import head, open_image, read_mask
from lacuna.data.sources.folder import Folder
from lacuna.data.sources.pixels import fitted_incomplete
from lacuna.errors import LacunaError

ORIENTATION = 0x0112


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("ending", "channels"), [("jpg", 3), ("png", 1), ("webp", 3), ("tif", 1), ("tif", 3)])
def test_a_picture_is_read_as_viewers_show_it(tmp_path, orientation, ending, channels):
    path, exif = tmp_path / f"a.{ending}", Image.Exif()
    exif[ORIENTATION] = orientation
    array = pixels(16, 24, 3) if channels == 3 else pixels(16, 24)
    Image.fromarray(array).save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    plain = Image.fromarray(array)
    if ending == "jpg":  # what the file holds; the pixels do not depend on the orientation
        plain.save(tmp_path / "plain.jpg")
        plain = Image.open(tmp_path / "plain.jpg")
    plain.getexif()[ORIENTATION] = orientation
    right = ImageOps.exif_transpose(plain)
    np.testing.assert_array_equal(np.asarray(open_image(path)), np.asarray(right))
    assert head(path).size == right.size == ((24, 16) if orientation < 5 else (16, 24))


def test_the_mask_of_a_turned_photograph_lies_on_what_viewers_show(tmp_path):
    exif, mask = Image.Exif(), np.full((6, 6), 255, np.uint8)
    exif[ORIENTATION], mask[0, :4] = 6, 0
    for name in ("a", "b"):
        Image.fromarray(pixels(6, 6)).save(tmp_path / f"{name}.png", exif=exif)
        Image.fromarray(mask).save(tmp_path / f"{name}_mask.png")
    for _, image, observed in Folder(str(tmp_path)).pictures(1):
        np.testing.assert_array_equal(observed[0], mask > 0)
        np.testing.assert_array_equal(image[0], np.where(mask > 0, np.rot90(pixels(6, 6), -1), 0))


def save_mask(path, values, mode=None):
    picture = Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(path)
    return path


HOLE = np.ones((5, 5), bool)
HOLE[1:3, 2] = False
WHITE = HOLE.astype(np.uint8) * 255


@pytest.mark.parametrize(
    "values",
    [
        WHITE,
        HOLE,
        HOLE.astype(np.uint8),
        HOLE.astype(np.uint16) * 65535,
        HOLE.astype(np.float32),
        np.where(HOLE, 1, np.nan).astype(np.float32),
        np.dstack([np.full((5, 5), 255, np.uint8), WHITE]),  # white, transparent over the hole
        np.dstack([np.full((5, 5, 3), 255, np.uint8), WHITE]),
        np.where(HOLE, 200, 50).astype(np.uint8),
    ],
    ids=["255", "bits", "0/1", "16 bits", "float", "NaN", "LA", "RGBA", "grey"],
)
def test_masks_of_every_usual_kind_are_the_same_mask(tmp_path, values):
    ending = "tif" if values.dtype == np.float32 else "png"
    observed, binary, grey = read_mask(save_mask(tmp_path / f"m.{ending}", values))
    np.testing.assert_array_equal(observed, HOLE)
    assert binary == (values.dtype != bool and np.nanmax(values) == 1)
    assert grey == (200 in values)


@pytest.mark.parametrize("values", [HOLE * 2, 1 + HOLE, HOLE * 127, HOLE * np.uint16(300), 1 + HOLE * 254])
def test_a_mask_of_another_convention_is_named_in_a_sentence(tmp_path, values):
    values = values.astype(np.uint16 if values.max() > 255 else np.uint8)
    with pytest.raises(LacunaError, match=r"m\.png holds the values .* white \(or 1\) = observed, black \(0\)"):
        read_mask(save_mask(tmp_path / "m.png", values))


def test_masks_of_0_and_1_are_said(tmp_path, capsys):
    home = tmp_path / "home"
    home.mkdir()
    for number in range(4):
        Image.fromarray(pixels(5, 5, seed=number)).save(home / f"{number}.png")
    for number in range(2):
        save_mask(home / f"{number}_mask.png", HOLE.astype(np.uint8))
    data = Folder(str(home)).prepare(tmp_path)
    assert "2 mask(s) hold the values 0 and 1" in capsys.readouterr().err
    missing = sum(int((~arrays.observed).sum()) for s in data.splits if (arrays := data.split(s)).observed is not None)
    assert missing == 2 * 2


def test_two_masks_of_one_image_and_one_mask_of_two_are_refused(tmp_path):
    save_mask(tmp_path / "a.png", pixels(5, 5))
    save_mask(tmp_path / "a_mask.png", WHITE)
    save_mask(tmp_path / "a_mask.bmp", WHITE)
    with pytest.raises(LacunaError, match=r"a\.png has two masks, a_mask\.bmp and a_mask\.png"):
        Folder(str(tmp_path))
    (tmp_path / "a_mask.bmp").rename(tmp_path / "a.bmp")
    with pytest.raises(LacunaError, match=r"a_mask\.png could belong to a\.bmp or to another image"):
        Folder(str(tmp_path))


def test_greys_of_masks_and_of_transparency_are_said(tmp_path, capsys):
    home = tmp_path / "home"
    home.mkdir()
    half = np.full((5, 5), 100, np.uint8)
    half[0] = 200
    for number in range(3):
        Image.fromarray(pixels(5, 5, seed=number)).save(home / f"{number}.png")
    save_mask(home / "0_mask.png", half)
    Image.fromarray(np.dstack([pixels(5, 5), half])).save(home / "1.png")
    data = Folder(str(home)).prepare(tmp_path)
    assert "2 mask(s) or images are partly grey or transparent" in capsys.readouterr().err
    assert data.split("train").observed.sum((1, 2, 3)).min() == 5  # one of the two is there


def test_capital_letters_make_a_mask_no_image_and_other_spellings_are_refused(tmp_path):
    save_mask(tmp_path / "a.png", pixels(5, 5))
    save_mask(tmp_path / "a_Mask.PNG", WHITE)
    ((name, _, observed),) = Folder(str(tmp_path)).pictures(1)
    assert name.name == "a.png" and np.array_equal(observed[0], HOLE)
    for ending in ("-mask", ".mask", "_masks", "mask", " Mask"):
        other = save_mask(tmp_path / f"a{ending}.png", WHITE)
        with pytest.raises(LacunaError, match=rf"looks like the mask of an image: set data\.mask_suffix={ending} if"):
            Folder(str(tmp_path))
        other.unlink()
    save_mask(tmp_path / "mask.png", pixels(5, 5))
    save_mask(tmp_path / "unmask.png", pixels(5, 5))
    assert len(Folder(str(tmp_path)).names) == 3


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "gif", "webp", "bmp"])
def test_damaged_files_are_one_sentence(tmp_path, ending):
    path, generator = tmp_path / f"a.{ending}", np.random.default_rng(0)
    Image.fromarray(pixels(20, 20)).save(path)
    whole = path.read_bytes()
    for trial in range(60):
        damaged = bytearray(whole[: generator.integers(0, len(whole))] if trial % 2 else whole)
        for place in generator.integers(0, max(1, len(damaged)), 5 if damaged else 0):
            damaged[place] = generator.integers(0, 256)
        path.write_bytes(bytes(damaged))
        for read in (head, open_image, read_mask):
            with contextlib.suppress(LacunaError):  # Pillow may repair it
                read(path)


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.webp", "a_mask.tif"])
def test_several_pages_are_refused_not_dropped(tmp_path, name):
    pages = [Image.fromarray(pixels(8, 8, seed=seed)) for seed in range(3)]
    Image.fromarray(pixels(8, 8)).save(tmp_path / "a.png")
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    Image.fromarray(pixels(8, 8)).save(tmp_path / "b.png")
    with pytest.raises(LacunaError, match=rf"{name} holds 3 pages or frames: save each as a file of its own"):
        Folder(str(tmp_path)).prepare(tmp_path / "root")


def test_the_previews_of_a_photograph_are_left_out_with_a_word(tmp_path, capsys):
    home = tmp_path / "home"
    home.mkdir()
    for seed in (0, 1):
        photograph = Image.fromarray(pixels(8, 8, 3, seed=seed))
        photograph.save(home / f"{seed}.jpg", format="MPO", save_all=True, append_images=[photograph.resize((4, 4))])
    data = Folder(str(home)).prepare(tmp_path)
    assert data.provenance.shape == (3, 8, 8)
    assert "the previews inside 2 photograph(s) are left out" in capsys.readouterr().err


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_takes_the_mean_of_the_observed_pixels(size, channels):
    y, x = np.mgrid[:64, :64] / 64
    whole = np.stack([np.round(127 + 100 * np.sin(5 * x + c) * np.cos(4 * y)) for c in range(3)], -1).astype(np.uint8)
    whole = whole if channels == 3 else whole[..., 0]
    observed = np.random.default_rng(0).random((64, 64)) > 0.1
    spoilt = np.where(observed if channels == 1 else observed[..., None], whole, 255)
    small, mask = fitted_incomplete(spoilt, observed, size)
    if size == 64:
        np.testing.assert_array_equal(mask, observed)
        np.testing.assert_array_equal(small[observed], whole[observed])
        return
    assert mask.mean() > 0.998
    complete = np.asarray(Image.fromarray(whole).resize((size, size), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(small - complete)[mask].mean() < 1
    # an independent derivation: the weights of the resizing, one row at a time
    weights = np.asarray(Image.fromarray(np.eye(64, dtype=np.float32)).resize((64, size), Image.Resampling.BILINEAR))
    share = weights @ observed @ weights.T
    np.testing.assert_array_equal(mask, share > 0.5 - 1e-4)
    first = whole if channels == 1 else whole[..., 0]
    mean = weights @ (first * observed) @ weights.T / share
    assert np.abs((small if channels == 1 else small[..., 0]) - mean)[mask].max() <= 0.501


def test_resizing_never_reads_what_is_stored_in_holes():
    image, observed = pixels(20, 20), np.random.default_rng(1).random((20, 20)) > 0.4
    first = fitted_incomplete(image, observed, 7)
    second = fitted_incomplete(np.where(observed, image, 255), observed, 7)
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[0][~first[1]] == 0).all()
