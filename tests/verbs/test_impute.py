"""A user's own images completed by a trained density, flow or imputer."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lacuna.densities.dmfa import DMFA
from lacuna.verbs.command import verb
from tests.runs import real


@pytest.fixture(scope="module")
def output(tmp_path_factory, digits_root) -> Path:
    """An output folder with a density, a flow, classifiers on them and one without any, and imputers."""
    folder = tmp_path_factory.mktemp("impute")
    words = (f"output={folder}", f"data.root={digits_root}", *real.TINY)
    assert real.train("experiment=digits_mfa_mean", *words) == 0
    assert real.train("experiment=digits_acflow", *words) == 0
    assert real.train("experiment=digits_zero", *words) == 0
    for imputer in ("linear", "density_mean"):
        assert real.train("task=impute", f"imputer={imputer}", "features=none", *words) == 0
    return folder


def impute(output: Path, *words: object) -> int:
    return verb("impute", "lacuna.verbs.impute:main")([f"output={output}", *map(str, words)])


def digits(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8), dtype=np.uint8)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Two pictures with holes: one transparent, one with a sidecar mask in a sub-folder."""
    folder = tmp_path / "mine"
    (folder / "b").mkdir(parents=True)
    first, second = digits(2)
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[2:5, 1:6] = 0
    Image.merge("LA", [Image.fromarray(first), Image.fromarray(alpha)]).save(folder / "a.png")
    Image.fromarray(second).save(folder / "b" / "c.png")
    shown = np.full((8, 8), 255, np.uint8)
    shown[:4] = 0
    Image.fromarray(shown).save(folder / "b" / "c_mask.png")
    return folder


@pytest.mark.parametrize(
    "run",
    [
        "digits-square-dmfa",
        "digits-square-mfa_mean",
        "digits-square-flow",
        "digits-square-acflow",
        "digits-square-density_mean",
    ],
)
def test_a_folder_keeps_what_was_observed_and_its_names(output, pictures, tmp_path, run):
    to = tmp_path / "out"
    assert impute(output, f"run={run}", f"input={pictures}", f"to={to}", "samples=2") == 0
    first, second = digits(2)
    a, c = np.asarray(Image.open(to / "a.png")), np.asarray(Image.open(to / "b" / "c.png"))
    hidden = np.zeros((8, 8), bool)
    hidden[2:5, 1:6] = True
    assert (a[~hidden] == first[~hidden]).all() and (c[4:] == second[4:]).all()
    uncertainty = np.asarray(Image.open(to / "a_uncertainty.png"))
    assert (uncertainty[~hidden] == 0).all() and (uncertainty[hidden] > 0).all()
    one, two = (np.asarray(Image.open(to / f"a_sample{i}.png")) for i in (1, 2))
    assert (one[~hidden] == first[~hidden]).all() and (one[hidden] != two[hidden]).any()


def test_an_imputer_completes_in_one_way_and_claims_no_uncertainty(output, pictures, tmp_path, capsys):
    run, to = "run=digits-square-linear", tmp_path / "out"
    assert impute(output, run, f"input={pictures}", f"to={to}") == 0
    assert sorted(path.name for path in to.rglob("*.png")) == ["a.png", "c.png"]
    first, hidden = digits(2)[0], np.zeros((8, 8), bool)
    hidden[2:5, 1:6] = True
    a = np.asarray(Image.open(to / "a.png"))
    assert (a[~hidden] == first[~hidden]).all() and (a[hidden] != first[hidden]).any()
    np.save(tmp_path / "x.npy", np.where(hidden, np.nan, digits(2) / np.float32(255)))
    assert impute(output, run, f"input={tmp_path / 'x.npy'}", f"to={tmp_path / 'y'}") == 0
    found = np.load(tmp_path / "y" / "x.npz")
    assert set(found) == {"images", "observed"} and found["images"].dtype == np.float32
    np.testing.assert_allclose(found["images"][0, 0] * 255, a, atol=0.501)  # a is rounded
    assert impute(output, run, f"input={pictures}", f"to={tmp_path / 'z'}", "samples=2") == 2
    assert "cannot sample" in capsys.readouterr().err and not (tmp_path / "z").exists()


def test_what_stands_in_the_holes_does_not_matter(output, tmp_path):
    images = digits(70).astype(np.float32) / 255  # more than one batch
    observed = np.random.default_rng(1).random((70, 8, 8)) < 0.7
    observed[:, 0, 0] = True
    np.save(tmp_path / "nan.npy", np.where(observed, images, np.nan))
    np.savez(tmp_path / "noise.npz", images=digits(140)[70:] * ~observed + digits(70) * observed, observed=observed)
    for name in ("nan.npy", "noise.npz"):
        words = (f"input={tmp_path / name}", f"to={tmp_path / Path(name).stem}", "samples=1")
        assert impute(output, "run=digits-square-dmfa", *words) == 0
    nan, noise = (np.load(tmp_path / name / f"{name}.npz") for name in ("nan", "noise"))
    for key in ("uncertainty", "observed"):
        np.testing.assert_array_equal(nan[key], noise[key])
    for key in ("images", "samples"):  # floats come back as floats, whole numbers rounded
        np.testing.assert_allclose(nan[key] * 255, noise[key], atol=0.501)
    assert (noise["images"][:, 0][observed] == digits(70)[observed]).all()
    assert (nan["images"][:, 0][observed] == images[observed]).all()
    assert nan["samples"].shape == (1, 70, 1, 8, 8)


@pytest.mark.parametrize(
    "run", ["digits-square-dmfa", "digits-square-flow", "digits-square-density_mean", "digits-square-linear"]
)
def test_arrays_of_every_type_come_back_in_it(output, tmp_path, run):
    observed = np.random.default_rng(1).random((3, 1, 8, 8)) < 0.7
    observed[..., 0, 0] = True
    for dtype in (np.float64, np.float16, np.uint16):
        top = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
        images = (digits(3)[:, None] / 255 * top).astype(dtype)
        name = np.dtype(dtype).name
        np.savez(tmp_path / f"{name}.npz", images=images, observed=observed)
        words = (f"run={run}", f"input={tmp_path / name}.npz", f"to={tmp_path / name}")
        assert impute(output, *words) == 0
        found = np.load(tmp_path / name / f"{name}.npz")["images"]
        assert found.dtype == dtype and (found[observed] == images[observed]).all()
        assert np.isfinite(found).all() and (found >= 0).all() and (found <= top).all()


def with_holes(folder: Path, names) -> Path:
    folder.mkdir()
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[2:6, 2:6] = 0
    for name, image in zip(names, digits(len(names)), strict=True):
        Image.merge("LA", [Image.fromarray(image), Image.fromarray(alpha)]).save(folder / name)
    return folder


def read(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in folder.glob("*.png")}


def test_batches_change_nothing(output, tmp_path, monkeypatch):
    source = with_holes(tmp_path / "mine", [f"{i}.png" for i in range(5)])
    np.save(tmp_path / "x.npy", np.where(np.eye(8) > 0, np.nan, digits(5) / np.float32(255)))
    found, arrays, calls = [], [], []
    for size in (64, 2):
        monkeypatch.setattr("lacuna.inference.image_files.BATCH", size)
        with count_calls(calls):
            words = ("run=digits-square-dmfa", "samples=2", "seed=3")
            assert impute(output, *words, f"input={source}", f"to={tmp_path / f'out{size}'}") == 0
        assert impute(output, *words, f"input={tmp_path / 'x.npy'}", f"to={tmp_path / f'arrays{size}'}") == 0
        found.append(read(tmp_path / f"out{size}"))
        arrays.append(dict(np.load(tmp_path / f"arrays{size}" / "x.npz")))
    assert calls == [5, 2, 2, 1]  # the density is asked once a batch
    assert len(found[0]) == 20 and found[0].keys() == found[1].keys()
    for name in found[0]:  # up to the rounding of another order of summation
        assert abs(found[0][name] - found[1][name]).max() <= 1
    assert set(arrays[0]) == {"images", "uncertainty", "observed", "samples"}
    for name in ("images", "samples"):
        assert abs(arrays[0][name].astype(int) - arrays[1][name]).max() <= 1


@contextlib.contextmanager
def count_calls(calls):
    """Note the batch size of every call of a density."""
    original = DMFA.forward

    def forward(self, observed, mask):
        calls.append(len(observed))
        return original(self, observed, mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DMFA, "forward", forward)
        yield


def test_every_picture_and_seed_has_its_own_noise(output, tmp_path):
    source = tmp_path / "same"
    source.mkdir()
    with_holes(tmp_path / "one", ["a.png"])
    for name in ("a.png", "b.png"):
        shutil.copy(tmp_path / "one" / "a.png", source / name)
    for place, seed in (("out0", 0), ("out1", 1)):
        words = (f"input={source}", f"to={tmp_path / place}", "samples=1", f"seed={seed}")
        assert impute(output, "run=digits-square-dmfa", *words) == 0
    zero, one = read(tmp_path / "out0"), read(tmp_path / "out1")
    assert (zero["a.png"] == zero["b.png"]).all() and (zero["a.png"] == one["a.png"]).all()
    assert (zero["a_sample1.png"] != zero["b_sample1.png"]).any()
    assert (zero["a_sample1.png"] != one["a_sample1.png"]).any()


def test_a_flow_s_uncertainty_is_that_of_its_samples(output, tmp_path):
    """Of many samples, which come from the same distribution with other noise."""
    observed = np.ones((3, 8, 8), bool)
    observed[:, 2:6, 2:6] = False
    np.savez(tmp_path / "x.npz", images=digits(3), observed=observed)
    words = (f"input={tmp_path / 'x.npz'}", f"to={tmp_path / 'out'}", "samples=400")
    assert impute(output, "run=digits-square-flow", *words) == 0
    found = np.load(tmp_path / "out" / "x.npz")
    hidden, samples = ~observed, found["samples"][:, :, 0] / 255
    assert (found["uncertainty"][:, 0][observed] == 0).all()
    there, drawn = found["uncertainty"][:, 0][hidden], samples.std(0)[hidden]
    assert abs(there.mean() - drawn.mean()) < 0.03
    assert np.abs(found["images"][:, 0][hidden] / 255 - samples.mean(0)[hidden]).mean() < 0.06


@pytest.mark.parametrize("names", [("0.jpg", "0.png"), ("x.png", "x_uncertainty.png"), ("x.png", "x_sample1.png")])
def test_results_that_would_overwrite_each_other_are_refused(output, tmp_path, capsys, names):
    source = tmp_path / "mine"
    source.mkdir()
    for name, image in zip(names, digits(2), strict=True):
        Image.fromarray(image).save(source / name)
    to = tmp_path / "new" / "out"
    assert impute(output, "run=digits-square-dmfa", f"input={source}", f"to={to}", "samples=1") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and all(str(source / name) in error[0] for name in names), error
    assert not to.parent.exists()


def test_mistakes_are_one_sentence_and_leave_nothing(output, pictures, tmp_path, capsys):
    np.save(tmp_path / "large.npy", np.zeros((2, 9, 9), np.uint8))
    np.save(tmp_path / "empty.npy", np.full((2, 8, 8), np.nan, np.float32))
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "both.npy", np.zeros((2, 3, 8, 3), np.uint8))
    for name in ("none", "orphan"):
        (tmp_path / name).mkdir()
    Image.fromarray(digits(1)[0]).save(tmp_path / "orphan" / "x_mask.png")
    to = tmp_path / "out"
    cases = [
        ((), "run is empty"),
        (("run=digits-square-dmfa",), "input is empty"),
        (("run=digits-square-dmfa", "input=nowhere"), "input=nowhere does not exist"),
        (("run=digits-square-zero", f"input={pictures}"), "has no density"),
        (("run=digits-square-dmfa", f"input={pictures}", "samples=-1"), "samples=-1"),
        (("run=digits-square-dmfa", f"input={tmp_path / 'large.npy'}"), "1x9x9"),
        (("run=digits-square-dmfa", f"input={tmp_path / 'text.npy'}"), "cannot be read"),
        (("run=digits-square-dmfa", f"input={tmp_path / 'both.npy'}"), "set layout to NHWC or NCHW"),
        (("run=digits-square-dmfa", f"input={tmp_path / 'none'}"), f"input={tmp_path / 'none'} holds no image"),
        (("run=digits-square-dmfa", f"input={tmp_path / 'orphan'}"), "(mask_suffix=_mask)"),
    ]
    for words, said in cases:
        assert impute(output, *words, f"to={to}") == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and said in error[0] and "data." not in error[0], error
        assert not to.exists() and not list(tmp_path.glob(".out*"))
    to.mkdir()
    assert impute(output, "run=digits-square-dmfa", f"input={pictures}", f"to={to}") == 2
    assert "exists already" in capsys.readouterr().err
