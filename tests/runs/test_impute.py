"""A user's own images completed by a trained density."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lacuna.cli import verb
from tests.runs import real


@pytest.fixture(scope="module")
def output(tmp_path_factory, digits_root) -> Path:
    """An output folder with a density, a classifier on it and one without any."""
    folder = tmp_path_factory.mktemp("impute")
    words = (f"output={folder}", f"data.root={digits_root}", *real.TINY)
    assert real.train("experiment=digits_mfa_mean", *words) == 0
    assert real.train("experiment=digits_zero", *words) == 0
    return folder


def impute(output: Path, *words: object) -> int:
    return verb("impute", "lacuna.runs.impute:main")([f"output={output}", *map(str, words)])


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


@pytest.mark.parametrize("run", ["digits-square-dmfa", "digits-square-mfa_mean"])
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
    for key in ("images", "uncertainty", "observed", "samples"):
        np.testing.assert_array_equal(nan[key], noise[key])
    assert (nan["images"][:, 0][observed] == digits(70)[observed]).all()
    assert nan["samples"].shape == (1, 70, 1, 8, 8)


def test_mistakes_are_one_sentence_and_leave_nothing(output, pictures, tmp_path, capsys):
    np.save(tmp_path / "large.npy", np.zeros((2, 9, 9), np.uint8))
    np.save(tmp_path / "empty.npy", np.full((2, 8, 8), np.nan, np.float32))
    (tmp_path / "text.npy").write_text("no array")
    to = tmp_path / "out"
    cases = [
        ((), "run is empty"),
        (("run=digits-square-dmfa",), "input is empty"),
        (("run=digits-square-dmfa", "input=nowhere"), "input=nowhere does not exist"),
        (("run=digits-square-zero", f"input={pictures}"), "has no density"),
        (("run=digits-square-dmfa", f"input={pictures}", "samples=-1"), "samples=-1"),
        (("run=digits-square-dmfa", f"input={tmp_path / 'large.npy'}"), "1x9x9"),
        (("run=digits-square-dmfa", f"input={tmp_path / 'text.npy'}"), "cannot be read"),
    ]
    for words, said in cases:
        assert impute(output, *words, f"to={to}") == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and said in error[0], error
        assert not to.exists() and not list(tmp_path.glob(".out*"))
    to.mkdir()
    assert impute(output, "run=digits-square-dmfa", f"input={pictures}", f"to={to}") == 2
    assert "exists already" in capsys.readouterr().err
