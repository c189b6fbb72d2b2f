"""``impute.py imputer=...``: a user's own images of any size and depth, completed without a trained run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lacuna.verbs.command import verb
from tests.own_package import ROW_MEAN, searched, write

RNG = np.random.default_rng(0)


def impute(*words: object) -> int:
    return verb("impute", "lacuna.verbs.impute:main")([*map(str, words)])


def smooth(height: int, width: int, top: float) -> np.ndarray:
    """A ramp, of which linear interpolation knows every value."""
    return top * np.add.outer(np.arange(height), np.arange(width)) / (height + width - 2)


def hole(height: int, width: int) -> np.ndarray:
    observed = RNG.random((height, width)) < 0.6
    observed[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    return observed


def mask_file(path: Path, observed: np.ndarray) -> None:
    Image.fromarray(observed.astype(np.uint8) * np.uint8(255)).save(path)


KINDS = {
    "grey.png": (np.uint8, 255),
    "sixteen.png": (np.uint16, 65535),
    "deep.tif": (np.uint16, 65535),
    "float.tif": (np.float32, 0.004),
    "far.tiff": (np.float32, 1e4),
    "windows.bmp": (np.uint8, 255),
    "bits.png": (np.bool_, 1),
}


@pytest.mark.parametrize("imputer", ["linear", "nearest", "biharmonic", "harmonic", "zero", "mean", "gaussian"])
def test_observed_values_come_back_as_they_were_in_type_and_format(tmp_path, imputer) -> None:
    source, to, masks = tmp_path / "mine", tmp_path / "out", {}
    source.mkdir()
    for number, (name, (dtype, top)) in enumerate(KINDS.items()):
        height, width = 9 + number, 12
        masks[name] = hole(height, width)
        values = smooth(height, width, top) if dtype == np.float32 else np.rint(smooth(height, width, top))
        Image.fromarray(values.astype(dtype)).save(source / name)
        mask_file(source / f"{Path(name).stem}_mask.png", masks[name])
    assert impute(f"imputer={imputer}", f"input={source}", f"to={to}") == 0
    for name, observed in masks.items():
        with Image.open(source / name) as given, Image.open(to / name) as found:
            assert (given.mode, given.format, given.size) == (found.mode, found.format, found.size), name
            before, after = np.asarray(given), np.asarray(found)
        assert before.dtype == after.dtype and (before[observed] == after[observed]).all(), name
        if imputer == "linear" and name != "bits.png":  # a ramp is filled up to rounding
            step = 1 if before.dtype.kind in "ui" else 1e-5 * before.max()
            assert abs(before.astype(float) - after)[~observed].max() <= step * 1.5, name


def test_colours_palettes_alpha_and_orientation(tmp_path) -> None:
    source, to = tmp_path / "mine", tmp_path / "out"
    source.mkdir()
    colour = RNG.integers(0, 256, (10, 14, 3), dtype=np.uint8)
    alpha = hole(10, 14).astype(np.uint8) * np.uint8(255)
    Image.fromarray(np.dstack([colour, alpha])).save(source / "with alpha ü.png")
    Image.fromarray(colour).quantize(16).save(source / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colour).save(source / "turned.jpg", exif=exif)
    shown = hole(14, 10)
    mask_file(source / "turned_mask.png", shown)
    assert impute("imputer=linear", f"input={source}", f"to={to}") == 0
    found = np.asarray(Image.open(to / "with alpha ü.png"))
    assert (found[alpha > 0] == colour[alpha > 0]).all() and (found[alpha == 0] != colour[alpha == 0]).any()
    palette = np.asarray(Image.open(source / "palette.png").convert("RGB"))
    assert (np.asarray(Image.open(to / "palette.png")) == palette).all()
    upright = np.asarray(ImageOps.exif_transpose(Image.open(source / "turned.jpg")))
    turned = np.asarray(Image.open(to / "turned.png"))
    assert (turned[shown] == upright[shown]).all() and (turned[~shown] != upright[~shown]).any()


@pytest.mark.parametrize("kind", ["0/1", "alpha", "16 bits", "one bit", "jpeg"])
def test_masks_of_other_conventions(tmp_path, capsys, kind) -> None:
    source, observed = tmp_path / "mine", np.ones((16, 16), bool)
    source.mkdir()
    observed[4:9, 4:10] = False
    image = RNG.integers(1, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(image).save(source / "a.png")
    white = np.full((16, 16), 255, np.uint8)
    masks = {
        "0/1": Image.fromarray(observed.astype(np.uint8)),
        "alpha": Image.merge("LA", [Image.fromarray(white), Image.fromarray(white * observed)]),
        "16 bits": Image.fromarray(observed.astype(np.uint16) * np.uint16(65535)),
        "one bit": Image.fromarray(observed),
        "jpeg": Image.fromarray(white * observed),
    }
    masks[kind].save(source / f"a_mask.{'jpg' if kind == 'jpeg' else 'png'}")
    assert impute("imputer=zero", f"input={source}", f"to={tmp_path / 'out'}") == 0
    assert (np.asarray(Image.open(tmp_path / "out" / "a.png")) == np.where(observed, image, 0)).all()
    assert ("values 0 and 1" in capsys.readouterr().out) == (kind == "0/1")


def broken_folder(source: Path) -> dict[str, str]:
    """One good picture, and others with the words of what is said about them."""
    (source / "sub").mkdir(parents=True)
    grey = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
    good = Image.fromarray(grey)
    for name in ("good.png", "small.png", "twice.png", "dark.png", "red.png"):
        good.save(source / name)
    mask_file(source / "good_mask.png", hole(8, 8))
    mask_file(source / "small_mask.png", hole(4, 4))
    for ending in ("png", "bmp"):
        mask_file(source / f"twice_mask.{ending}", hole(8, 8))
    Image.fromarray(hole(8, 8).astype(np.uint8) * np.uint8(3)).save(source / "dark_mask.png")
    Image.fromarray(np.dstack([grey, grey * 0, grey * 0])).save(source / "red_mask.png")
    mask_file(source / "orphan_mask.png", hole(8, 8))
    (source / "cut.png").write_bytes((source / "good.png").read_bytes()[:60])
    (source / "sub" / "no.jpg").write_text("no image")
    good.save(source / "pages.tif", save_all=True, append_images=[good, good])
    Image.fromarray(np.dstack([grey] * 3 + [grey * 0])).save(source / "empty.png")
    for ending in ("png", "bmp"):
        good.save(source / f"pair.{ending}")
    mask_file(source / "pair_mask.png", hole(8, 8))
    Image.fromarray(np.full((8, 8), np.inf, np.float32)).save(source / "infinite.tif")
    said = {
        "small.png": "4x4", "twice.png": "two masks", "dark.png": "no pixel as observed", "red.png": "coloured",
        "orphan_mask.png": "no image for it", "cut.png": "cannot be read", "sub/no.jpg": "cannot be read",
        "pages.tif": "3 pages", "empty.png": "no observed pixel", "infinite.tif": "infinite",
        "pair.png": "of both", "pair.bmp": "of both",
    }  # fmt: skip
    return said


def test_bad_files_are_named_and_do_not_stop_the_others(tmp_path, capsys) -> None:
    source, to = tmp_path / "mine", tmp_path / "out"
    said = broken_folder(source)
    assert impute("imputer=linear", f"input={source}", f"to={to}") == 1
    out, err = capsys.readouterr()
    *lines, last = err.strip().splitlines()
    assert {line.split(": ")[1] for line in lines} == set(said) and len(lines) == len(said)
    for name, words in said.items():
        assert any(line.startswith(f"failed: {name}: ") and words in line for line in lines), (name, lines)
    assert last == f"{len(said)} of {len(said) + 1} images failed" and "1 image imputed" in out
    assert [path.name for path in to.rglob("*.png")] == ["good.png"]


def test_a_check_says_what_it_understood_and_writes_nothing(tmp_path, capsys) -> None:
    source = tmp_path / "mine"
    said = broken_folder(source)
    (source / ".hidden").mkdir()
    (source / "notes.txt").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    assert impute("check=true", f"input={source}", f"to={tmp_path / 'out'}") == 1
    out, err = capsys.readouterr()
    assert sorted(tmp_path.rglob("*")) == before
    missing = np.asarray(Image.open(source / "good_mask.png")) == 0
    assert f"good.png  8x8  grey uint8 0..255  {100 * missing.mean():.1f} % missing  mask good_mask.png" in out
    assert "not looked at: 1 hidden folders" in out and "not looked at: 1 files that are no images" in out
    # what has no observed pixel is a matter of the method
    assert {line.split(": ")[1] for line in err.strip().splitlines()} == set(said) - {"empty.png"}


def test_two_times_the_same_command_and_after_a_kill(tmp_path, capsys) -> None:
    source, to = tmp_path / "mine", tmp_path / "mine" / "out"
    source.mkdir()
    for number in range(5):
        image = np.dstack([RNG.integers(0, 256, (8, 8 + number), dtype=np.uint8), hole(8, 8 + number) * np.uint8(255)])
        Image.fromarray(image).save(source / f"{number}.png")
    words = ("imputer=linear", f"input={source}", f"to={to}")
    assert impute(*words) == 0
    whole = {path.name: path.read_bytes() for path in to.glob("*.png")}
    kept = (to / "0.png").stat().st_mtime_ns
    (to / "3.png").unlink()  # recorded, but not written any more
    (to / ".3.png.ab_d1fgh").write_bytes(b"half of it")
    record = (to / "imputed.jsonl").read_text()
    (to / "imputed.jsonl").write_text(record[:-40])  # the last line is cut off
    assert impute(*words) == 0
    assert "3 more were there already" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in to.glob("*.png")} == whole
    assert (to / "0.png").stat().st_mtime_ns == kept and not list(to.glob(".*.png*"))
    assert (to / "contact_sheet.html").read_text().count("<figure>") == 5
    assert [json.loads(line)["name"] for line in (to / "imputed.jsonl").read_text().splitlines()[1:]].count(
        "0.png"
    ) == 1
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(to / "1.png")  # somebody else's now
    mine = (to / "1.png").read_bytes()
    Image.fromarray(np.zeros((8, 8, 4), np.uint8) + np.uint8(200)).save(source / "2.png")
    assert impute(*words) == 1
    out, err = capsys.readouterr()
    assert "1 image: changed since the last time" in out and "1.png was changed" in err
    assert (to / "1.png").read_bytes() == mine and (np.asarray(Image.open(to / "2.png")) == 200).all()
    assert impute("imputer=nearest", *words[1:]) == 2
    assert "another command" in capsys.readouterr().err


def test_what_cannot_be_done_is_said_at_once(tmp_path, capsys) -> None:
    (tmp_path / "7").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "7" / "a.png")
    (tmp_path / "masked" / "masks").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "masked" / "masks" / "a.png")
    cases = [
        (("imputer=linear", "samples=2"), "cannot sample"),
        (("imputer=unet",), "has to be trained"),
        (("imputer=linear", "run=x"), "leave out one"),
        (("imputer=linear", "range=[1,0]"), "range="),
        (("imputer=linear", f"to={tmp_path / '7'}"), "is the input"),
        (("imputer=linear", f"input={tmp_path / 'masked'}"), "folder of masks"),
        ((), "imputer=linear"),
    ]
    for words, said in cases:
        given = {"input": tmp_path / "7", "to": tmp_path / "out"} | dict(word.split("=", 1) for word in words)
        assert impute(*(f"{key}={value}" for key, value in given.items())) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and said in error[0], error
    assert not (tmp_path / "out").exists()


def test_names_that_are_numbers(tmp_path, monkeypatch) -> None:
    (tmp_path / "2024").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "2024" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert impute("imputer=linear", "input=2024", "to=2025") == 0 and (tmp_path / "2025" / "a.png").exists()
    assert impute("imputer=linear", "input=2024/a.png", "to=7") == 0 and (tmp_path / "7" / "a.png").exists()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.float16, ">f4"])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_arrays_keep_their_type(tmp_path, dtype, ending) -> None:
    observed = np.stack([hole(9, 11) for _ in range(3)])
    top = {"u": 200 if np.dtype(dtype).itemsize == 1 else 40_000, "f": 0.004}[np.dtype(dtype).kind]
    images = np.stack([smooth(9, 11, top)] * 3).astype(dtype)
    file = tmp_path / f"x.{ending}"
    if ending == "npy":
        images = np.where(observed, images, np.nan).astype(dtype) if images.dtype.kind == "f" else images
        np.save(file, images)
        observed = ~np.isnan(images) if images.dtype.kind == "f" else np.ones_like(observed)
    else:
        np.savez(file, images=images, observed=np.where(observed, 1.0, np.nan))
    assert impute("imputer=linear", f"input={file}", f"to={tmp_path / 'out'}") == 0
    found = np.load(tmp_path / "out" / "x.npz")
    assert found["images"].dtype == np.dtype(dtype).newbyteorder("=") and (found["observed"][:, 0] == observed).all()
    assert (found["images"][:, 0][observed] == images[observed]).all()
    wanted = np.stack([smooth(9, 11, top)] * 3)
    error = 2e-6 if images.dtype.kind == "f" else 1.5  # observed values are rounded, too
    assert abs(found["images"][:, 0] - wanted).max() <= error


def test_arrays_with_names_that_say_nothing_are_refused(tmp_path, capsys) -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    for extra, said in (({"weights": images}, "weights"), ({"observed": images, "mask": images}, "leave one")):
        np.savez(tmp_path / "x.npz", images=images, **extra)
        assert impute("imputer=linear", f"input={tmp_path / 'x.npz'}", f"to={tmp_path / 'out'}") == 2
        assert said in capsys.readouterr().err and not (tmp_path / "out").exists()
    np.savez(tmp_path / "x.npz", images=images, test_images=images + 9, labels=np.arange(2))
    assert impute("imputer=linear", f"input={tmp_path / 'x.npz'}", f"to={tmp_path / 'out'}") == 0
    assert "labels are not written" in capsys.readouterr().out
    found = np.load(io.BytesIO((tmp_path / "out" / "x.npz").read_bytes()))
    assert (found["test_images"] == 9).all() and (found["images"] == 0).all()


def test_images_too_large_for_a_covariance_fail_and_the_others_do_not(tmp_path, capsys) -> None:
    (tmp_path / "mine").mkdir()
    for name, side in (("small.png", 8), ("large.png", 80)):
        image = RNG.integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(np.dstack([image, hole(side, side) * np.uint8(255)])).save(tmp_path / "mine" / name)
    assert impute("imputer=gaussian", f"input={tmp_path / 'mine'}", f"to={tmp_path / 'out'}") == 1
    out, err = capsys.readouterr()
    assert "gaussian learnt from 1 images of 1x8x8" in out and "up to 4096 values, these images have 6400" in err
    assert (tmp_path / "out" / "small.png").exists() and not (tmp_path / "out" / "large.png").exists()


def test_an_imputer_of_one_s_own_package(tmp_path, capsys) -> None:
    image = RNG.integers(0, 256, (8, 9), dtype=np.uint8)
    observed = hole(8, 9)
    Image.fromarray(np.dstack([image, observed * np.uint8(255)])).save(tmp_path / "a.png")
    words = ("imputer=zero", "imputer.type=impute_package.imputers.RowMean", f"input={tmp_path / 'a.png'}")
    write(tmp_path / "lib", "impute_package", {"imputers": ROW_MEAN})
    with searched(tmp_path / "lib"):
        assert impute(*words, f"to={tmp_path / 'out'}") == 2
        assert "plugins=[impute_package]" in capsys.readouterr().err
        assert impute(*words, f"to={tmp_path / 'out'}", "plugins=[impute_package]") == 0
    found = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    means = [row[seen].mean() for row, seen in zip(image, observed, strict=True)]
    wanted = np.where(observed, image, np.array(means)[:, None])
    assert abs(found - wanted).max() <= 0.5 + 1e-4 and (found == image)[observed].all()
