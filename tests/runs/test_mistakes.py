"""Whatever a user gets wrong, in words, values or data: one sentence, no traceback, and finished runs intact."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runs.real import TINY, train


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("experiment=digits_misconf", "did you mean 'digits_misconv'"),
        ("sed=1", "did you mean 'seed'"),
        ("density.training.learning_rate=1", "the keys of density.training are"),
        ("net.training.epochs=many", "must be a whole number"),
        ("data=imagenet", "The choices are"),
        ("task.name=paint", "paint"),
        ("data.train_images=some", "data.train_images"),
        ("data.train_images=0", "data.train_images=0"),
        ("data.validation=5000", "data.validation=5000 must be smaller"),
    ],
)
def test_a_wrong_word(fails: Callable[..., str], word: str, expected: str) -> None:
    assert expected in fails(word)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mask=bernoulli", "mask.rate=1.2"], "mask.rate=1.2 must lie in [0, 1)"),
        (["mask=square", "mask.fraction=-1"], "fraction"),
        (["mask=trapezoid", "mask.area=2"], "area"),
        (["mask.type=masks.Circle"], "mask.type=masks.Circle"),
        (["mask.type=os.system"], "mask.type=os.system"),
        (["stem.formula=guess"], "formula"),
        (["net.training.batch_size=0"], "batch_size=0"),
        (["density.components=0"], "components"),
        (["density.factors=-1"], "factors"),
        (["stem=knn", "stem.imputer.k=0"], "k=0"),
        (["precision=64-lies"], "precision"),
        (["net.training.epochs=0"], "net.training.epochs=0 must be at least 1"),
        (["net.training.epochs=null"], "net.training.epochs=None must be at least 1"),
        (["net.training.lr=nan"], "net.training.lr=nan more than 0"),
        (["seed=null"], "seed=None must be a whole number"),
        (["mask.seed=null"], "mask.seed=None must be a whole number"),
        (["density.training.lr=0"], "density.training.lr=0 more than 0"),
        (["net.training.lr_milestones=[3]"], "net.training.lr_milestones needs"),
        (["stem.kernel_size=0"], "stem.*"),
        (["stem=zero", "stem.kernel_size=9", "stem.padding=0"], "(1, 8, 8)"),
        (["trainer.threads=-1"], "trainer.threads=-1"),
        (["trainer.eval_batch_size=0"], "trainer.eval_batch_size=0"),
        (["mask=null"], "mask=null: choose one of"),
        (["stem=null"], "stem=null: choose one of"),
        (["density.net.filters=[]"], "density.net.filters=[]"),
        (["density.net.kernels=[3,4,3,3]"], "density.net.kernels[1]=4"),
        (["density.net.kernels=[3]"], "must be of the same length"),
        (["net.hidden=0"], "net.hidden=0"),
        (["net.stages=[]"], "net.stages=[]"),
        (["net.stages=[[32]]"], "net.stages[0]=[32]"),
        (["trainer.accelerator=abacus"], "trainer.*"),
        (["precision=bf16-true"], "use precision=bf16-mixed"),
        (["precision=16-mixed"], "precision=16-mixed needs a GPU"),
        (["precision=8"], "precision=8 is none of 32-true"),
        (["net.training.optimizer=adamm"], "did you mean adam?"),
        (["net.training.momentum=0.9"], "it is an option of rmsprop, sgd"),
        (["net.training.optimizer=sgd", "net.training.betas=[0.5,0.9]"], "it is an option of adam"),
        (["net.training.betas=[0.5,1.0]"], "net.training.betas=[0.5, 1.0] must be null or two numbers"),
        (["net.training.weight_decay=-1"], "net.training.weight_decay=-1 must be a number of at least 0"),
        (["net.training.gradient_clip=0"], "net.training.gradient_clip=0 must be null or a number above 0"),
        (["net.training.gradient_clip_value=nan"], "net.training.gradient_clip_value=nan must be"),
        (["net.training.schedule=cosin"], "did you mean cosine?"),
        (["net.training.warmup=2"], "net.training.warmup=2 must be smaller than net.training.epochs=2"),
        (["net.training.limit_batches=0"], "net.training.limit_batches=0 must be null or a whole number"),
        (["density.training.optimizer=lbfgs"], "density.training.optimizer=lbfgs must be one of"),
        (["task=flow", "flow.training.gradient_clip=1"], "flow.training.clip=100.0: set that one"),
        (["experiment=digits_smfa", "+density.training.optimizer=sgd"], "density.training"),
        (["trainer.profiler=simpl"], "trainer.profiler=simpl is none of null, simple"),
        (["trainer.deterministic=maybe"], "trainer.deterministic=maybe is none of false, true, warn"),
        (["trainer.fast_dev_run=0"], "trainer.fast_dev_run=0 must be true, false or a number of steps"),
        (["trainer.max_epochs=3"], "net.training.epochs=N"),
        (["+trainer.accumulate_grad_batches=4"], "could not resume exactly"),
        (["trainer.gradient_clip_val=1.0"], "net.training.gradient_clip=C"),
        (["trainer.limit_train_batches=5"], "net.training.limit_batches=N"),
    ],
)
def test_a_wrong_value(fails: Callable[..., str], words: list[str], expected: str) -> None:
    assert expected in fails(*words)


def test_damaged_prepared_data(fails: Callable[..., str], digits_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(digits_root, root)
    path = root / "prepared" / "digits" / "train_images.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    said = fails(f"data.root={root}")
    assert "train_images.npy is damaged" in said and "python scripts/prepare.py digits" in said
    path.unlink()
    assert "train_images.npy is missing" in fails(f"data.root={root}")


def test_data_that_are_not_there(fails: Callable[..., str], tmp_path: Path) -> None:
    said = fails("experiment=mnist_zero", f"data.root={tmp_path}", "data.download=false")
    assert "data.download=false" in said and "python scripts/prepare.py mnist" in said


def arrays(path: Path, **more: Any) -> list[str]:
    """A user's file of 8x8 images, and the words that choose it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(path, images=images, **more)
    words = ["data=arrays", f"data.path={path}", "data.train_images=24", "data.validation=8", "data.test_images=8"]
    return [*words, "data.validation_images=null"]


def test_an_image_without_an_observed_pixel(fails: Callable[..., str], tmp_path: Path) -> None:
    observed = np.ones((40, 8, 8), bool)
    observed[7] = False
    words = arrays(tmp_path / "mine.npz", observed=observed, labels=np.arange(40) % 3)
    said = fails(*words)
    assert "has no observed pixel" in said and "mine" in said


def test_labels_missing(fails: Callable[..., str], tmp_path: Path) -> None:
    words = arrays(tmp_path / "mine.npz")
    assert "has no labels: task=classify needs them" in fails(*words, "stem=zero")
    assert train(*TINY, f"output={tmp_path}", f"data.root={tmp_path}", *words, "task=density") == 0


def test_a_file_that_is_no_array(fails: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(pickle.dumps({"images": 3}))
    assert "mine.npz cannot be read" in fails("data=arrays", f"data.path={path}")
    assert "is not a file" in fails("data=arrays", f"data.path={tmp_path / 'none.npz'}")
    assert "data.path is empty" in fails("data=arrays")
