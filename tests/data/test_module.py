"""One experiment's data: disjoint splits, constant masks, with and without a Trainer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from lacuna.data.hashing import permutation
from lacuna.data.incomplete import Batch, EvalBatch
from lacuna.data.masks import Square
from lacuna.data.module import IncompleteData
from lacuna.data.sources.digits import Digits
from lacuna.errors import LacunaError

DIGITS = {"name": "digits", "type": "digits.Digits", "validation": 100, "train_images": None, "test_images": None}
SQUARE = {"name": "square", "type": "masks.Square", "seed": 0, "fraction": 0.5}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def make(root):
    def build(data=None, mask=None, **options):
        return IncompleteData(DIGITS | (data or {}), SQUARE | (mask or {}), root=root, **options)

    return build


def test_splits(make):
    data = make()
    data.setup()
    data.setup()
    assert (len(data.train), len(data.validation), len(data.test)) == (1197, 100, 500)
    train, validation = set(data.train.index.tolist()), set(data.validation.index.tolist())
    assert not train & validation and train | validation == set(range(1297))
    assert data.shape == data.train.shape == (1, 8, 8) and data.classes == 10
    assert data.provenance.name == "digits" and data.train is data.train
    assert isinstance(data.scheme, Square)


def test_training_batches_have_no_truth(make):
    data = make(batch_size=64, eval_batch_size=200)
    train, validation, test = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    assert (len(train), len(validation), len(test)) == (19, 1, 3)
    assert type(next(iter(train))) is Batch
    batch = next(iter(test))
    assert type(batch) is EvalBatch and len(batch) == 200 and batch.index[:3].tolist() == [0, 1, 2]
    assert type(next(iter(validation))) is EvalBatch


def test_masks_stay_with_their_images(make):
    whole, part = make(), make({"validation": 10, "train_images": 50, "validation_images": 4, "test_images": 7})
    assert (len(part.train), len(part.validation), len(part.test)) == (50, 4, 7)
    expected = Square()(torch.arange(1297), (1, 8, 8), seed=0, split="train")
    for images in (whole.train, whole.validation, part.train, part.validation):
        assert torch.equal(images.batch(range(len(images))).mask, expected[images.index])
    test = Square()(torch.arange(7), (1, 8, 8), seed=0, split="test")
    assert torch.equal(part.test.batch(range(7)).mask, test)
    assert not torch.equal(make(mask_seed=1).test.batch(range(7)).mask, test)
    assert not torch.equal(make(mask={"seed": 1}).test.batch(range(7)).mask, test)


def test_complete_images(make):
    data = make()
    incomplete, complete = data.test.batch(range(500)), data.complete("test").batch(range(500))
    assert complete.mask.all() and torch.equal(complete.observed, complete.truth)
    assert isinstance(incomplete, EvalBatch) and torch.equal(incomplete.truth, complete.truth)
    assert isinstance(data.complete("train").batch([0]), EvalBatch)


def test_no_validation(make):
    data = make({"validation": 0})
    assert len(data.train) == 1297 and data.val_dataloader() == []
    with pytest.raises(LacunaError, match=r"has no validation images: set data\.validation"):
        _ = data.validation


def test_a_users_missing_pixels_and_stored_validation(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.random((9, 5, 5)).astype(np.float32)
    images[:, 2, 2] = np.nan
    np.savez(tmp_path / "x.npz", images=images, validation_images=images[:4], test_images=images[:3])
    spec = {"type": "arrays.Arrays", "path": str(tmp_path / "x.npz"), "validation": 2}
    data = IncompleteData(spec, SQUARE, root=tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (9, 4, 3) and data.classes is None
    batch = data.complete("test").batch([0, 1, 2])
    assert isinstance(batch, EvalBatch) and batch.label is None
    assert (
        torch.equal(batch.mask, batch.truth_mask)
        and (~batch.truth_mask).sum() == 3
        and not batch.truth_mask[:, 0, 2, 2].any()
    )
    assert not data.test.batch([0, 1, 2]).mask[:, 0, 2, 2].any()


def test_a_users_validation_depends_on_the_content_only(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    found: dict[str, list[Any]] = {"arrays": [], "folder": []}
    for place in ("here", "there"):
        home = tmp_path / place
        (home / "photos").mkdir(parents=True)
        np.save(home / f"{place}.npy", images)
        for i in range(12):
            Image.fromarray(images[i]).save(home / "photos" / f"{i}.png")
        for type_, path in (("arrays.Arrays", home / f"{place}.npy"), ("folder.Folder", home / "photos")):
            spec = {"type": type_, "path": str(path), "validation": 4}
            data = IncompleteData(spec, SQUARE, root=tmp_path / "root")
            found[type_.split(".")[0]].append(
                (data.provenance.fingerprint, data.validation.index.tolist(), data.test.batch([0]).observed.tolist())
            )
    for one, other in found.values():
        assert one == other and len(one[1]) == 4
    np.save(tmp_path / "other.npy", 255 - images)
    spec = {"type": "arrays.Arrays", "path": str(tmp_path / "other.npy"), "validation": 4}
    assert IncompleteData(spec, SQUARE, root=tmp_path / "root").validation.index.tolist() != found["arrays"][0][1]


def test_the_validation_images_of_a_named_set_never_change(make):
    """Earlier runs used the same ones."""
    expected = np.sort(permutation(1297, "validation", "digits")[:100])
    np.testing.assert_array_equal(make().validation.index, expected)


def test_a_root_is_needed():
    for root in (None, ""):
        with pytest.raises(LacunaError, match=r"data\.root is empty"):
            IncompleteData(DIGITS, SQUARE, root=root)  # type: ignore[arg-type]
        with pytest.raises(LacunaError, match=r"data\.root is empty"):
            Digits().prepare(root)


class Recorder(pl.LightningModule):
    """Trains one number and records the indices of its training images."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.indices: list[torch.Tensor] = []

    def training_step(self, batch, _):
        self.indices.append(batch.index)
        return (self.weight - batch.observed.mean()) ** 2

    def validation_step(self, batch, _):
        assert isinstance(batch, EvalBatch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_under_a_trainer(make, tmp_path):
    data, model = make({"train_images": 100}, batch_size=40), Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, datamodule=data)
    epochs = torch.cat(model.indices).view(2, 100)
    fresh = make({"train_images": 100}, batch_size=40).train_dataloader()
    expected = torch.stack([torch.cat([batch.index for batch in fresh]) for _ in range(2)])
    assert torch.equal(epochs, expected) and not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"validation": 1297}, r"data\.validation=1297 must be smaller than the 1297"),
        ({"validation": -1}, r"data\.validation=-1 must be null or a whole number of at least 0"),
        ({"train_images": 0}, r"data\.train_images=0 must be"),
        ({"test_images": "many"}, r"data\.test_images=many must be"),
        ({"size": 9}, r"data \(digits\.Digits\)"),
        ({"type": "digits.Numbers"}, "no class Numbers"),
    ],
)
def test_refusals(make, data, words):
    with pytest.raises(LacunaError, match=words):
        _ = make(data).train


def test_unknown_split(make):
    with pytest.raises(LacunaError, match="no split 'holdout'"):
        make().complete("holdout")


def test_ranks_share_the_training_images(make):
    positions = []
    for rank in range(2):
        data = make(batch_size=50)
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2, strategy=strategy)
        positions.append(torch.cat([batch.index for batch in data.train_dataloader()]))
    assert [len(part) for part in positions] == [599, 598]
    assert sorted(torch.cat(positions).tolist()) == make().train.index.tolist()


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_resumes_mid_epoch_under_lightning(make, tmp_path, stop):
    """Saved after ``stop`` of 2 x 3 batches and resumed: the remaining batches are those of an unbroken run."""

    class Saving(Recorder):
        def on_train_batch_end(self, *_):
            if self.trainer.global_step == stop:
                self.trainer.save_checkpoint(tmp_path / "x.ckpt")

    def fit(model, **options):
        quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=2, enable_checkpointing=False, default_root_dir=tmp_path, **quiet
        )
        trainer.fit(model, datamodule=make({"train_images": 100}, batch_size=40), **options)
        return [batch.tolist() for batch in model.indices]

    whole = fit(Saving())
    assert whole[stop:] == fit(Recorder(), ckpt_path=tmp_path / "x.ckpt", weights_only=True)
