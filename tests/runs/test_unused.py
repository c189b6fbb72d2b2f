"""What a user sets and a run has no use for is told."""

from __future__ import annotations

import pytest

from lacuna.runs.unused import unused_words
from tests.runs.real import TINY, recipe, train


@pytest.mark.parametrize(
    ("experiment", "words", "unused"),
    [
        ("digits_zero", ["density.training.lr=0.02", "net.training.lr=0.02", "flow=acflow_quick", "seed=3"], [0, 2]),
        ("digits_misconv", ["density.training.lr=0.02", "++imputer.donors=3", "trainer.threads=1"], [1]),
        ("digits_dmfa", ["stem=zero", "net.hidden=3", "density.factors=2", "mask.fraction=0.3"], [0, 1]),
    ],
)
def test_words_for_parts_that_a_run_lacks(experiment, words, unused, digits_root):
    one = recipe(f"experiment={experiment}", "budget=smoke", f"data.root={digits_root}")
    assert unused_words(one, words) == [words[at] for at in unused]
    # and indeed they change nothing, while any other word that is part of a recipe does
    for word in words:
        same = recipe(f"experiment={experiment}", "budget=smoke", f"data.root={digits_root}", word) == one
        assert same if word in unused_words(one, words) or word.startswith("trainer") else not same


def test_train_says_so(tmp_path, digits_root, capsys):
    words = ("experiment=digits_zero", "budget=smoke", f"data.root={digits_root}", f"output={tmp_path}", *TINY)
    assert train(*words, "density.factors=2") == 0
    assert "density.factors=2 changes nothing: this run has no density." in capsys.readouterr().err
