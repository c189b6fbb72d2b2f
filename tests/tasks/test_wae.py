"""Auto-encoders on incomplete images: losses, lowest FID, resumed runs, messages."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from lacuna.runs.folder import RunFolder
from lacuna.runs.settings import Settings
from lacuna.tasks.common import stepping
from lacuna.tasks.common.models import IncompleteAutoencoder
from lacuna.tasks.common.sample_fid import SampleFID
from lacuna.tasks.wae import TrainWAE
from lacuna.training.loading import load, make_task, open_data
from lacuna.training.loggers import read_history
from tests.runs.real import contents, recipe, train

WAE_RUN = (
    "task=generate",
    "net=wae_digits",
    "net.stages=[[8,1]]",
    "net.latent=4",
    "net.training.epochs=4",
    "net.training.batch_size=32",
    "net.training.discriminator_lr=1.0e-3",
    "stem=zero",
    "stem.filters=4",
    "data.train_images=96",
    "data.validation=100",
    "data.validation_images=24",
    "data.test_images=100",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "trainer.checkpoint_seconds=0",
)
QUICK_JUDGE = ("features.run.net.training.epochs=1",)
# the last epoch spoils the model
SPOILT = (
    *QUICK_JUDGE,
    "net.training.lr=0.01",
    "net.training.lr_milestones=[[3,1.0]]",
)


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


def words(root: Path, output: Path, *more: str) -> tuple[str, ...]:
    return (*WAE_RUN, *more, f"data.root={root}", f"output={output}")


def folder(root: Path, output: Path, *more: str) -> RunFolder:
    return RunFolder.of(output, recipe(*words(root, output, *more)))


def task_of(root: Path, output: Path, *more: str) -> TrainWAE:
    wanted = recipe(*words(root, output, "features=none", *more))
    settings = Settings(output, root, download=False, trainer={"accelerator": "cpu"})
    task = make_task(wanted, settings, open_data(wanted, settings))
    assert isinstance(task, TrainWAE)
    return task


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, digits_root: Path) -> RunFolder:
    output = tmp_path_factory.mktemp("whole")
    assert train(*words(digits_root, output, *SPOILT)) == 0
    return folder(digits_root, output, *SPOILT)


# ---------------------------------------------------------------------- who learns from what


@pytest.mark.parametrize("kind", ["observed", "authors"])
def test_only_observed_pixels_are_reconstructed(kind, digits_root, tmp_path):
    task = task_of(digits_root, tmp_path, f"net.training.reconstruction={kind}")
    batch = task.data.train.batch(torch.arange(7))
    image = torch.rand(batch.observed.shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(task._reconstruction(image, batch), image)
    count = int(batch.mask.sum()) if kind == "observed" else image.numel()
    assert 0 < batch.mask.sum() < image.numel()
    assert (gradient[~batch.mask] == 0).all()
    torch.testing.assert_close(gradient[batch.mask], 2 * (image.detach() - batch.observed)[batch.mask] / count)


def test_one_backward_pass_gives_both_networks_their_own_gradients(digits_root, tmp_path):
    """Against the two losses of the paper, each differentiated alone."""
    task = task_of(digits_root, tmp_path, "net.training.adversarial_weight=0.3")
    model, wae = task.model.train(), task.model.wae
    batch = task.data.train.batch(torch.arange(20))
    judges = list(wae.discriminator.parameters())
    players = [weight for weight in model.parameters() if all(weight is not judge for judge in judges)]
    torch.manual_seed(5)
    loss, count = task.loss(batch)
    found = torch.autograd.grad(loss, [*players, *judges])
    assert count == 20

    torch.manual_seed(5)
    code = model.encode(batch.observed, batch.mask)
    drawn = torch.randn(code.shape)
    observed = batch.mask.expand_as(batch.observed)
    errors = (wae.decode(code) - batch.observed)[observed].square().mean()
    real, made = torch.ones(20), torch.zeros(20)
    encoder = errors + 0.3 * cross_entropy(wae.discriminate(code), real)
    discriminator = cross_entropy(wae.discriminate(drawn), real) + cross_entropy(wae.discriminate(code), made)
    wanted = torch.autograd.grad(encoder, players, retain_graph=True) + torch.autograd.grad(discriminator, judges)
    assert any(gradient.abs().max() > 1e-6 for gradient in wanted[-len(judges) :])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_without_weight_the_discriminator_changes_nothing_and_still_learns(digits_root, tmp_path):
    """Bit for bit: the discriminator influences the others through the adversarial term only."""
    states = []
    for rate in ("1.0e-3", "1.0e-1"):
        more = ("features=none", "net.training.adversarial_weight=0", f"net.training.discriminator_lr={rate}")
        assert train(*words(digits_root, tmp_path, *more)) == 0
        states.append(load_file(folder(digits_root, tmp_path, *more).path / "model.safetensors"))
    for name, weight in states[0].items():
        judges = "discriminator" in name
        assert torch.equal(weight, states[1][name]) != judges, name


def test_the_discriminator_has_its_own_learning_rate(digits_root, tmp_path, monkeypatch):
    """The milestones of one hold for the other in proportion."""
    rates = []
    original = TrainWAE.on_train_epoch_start

    def start(self: TrainWAE) -> None:
        original(self)
        groups = self.optimizers().param_groups  # type: ignore[union-attr]
        rates.append([group["lr"] for group in groups])
        judges = {id(weight) for weight in self.model.wae.discriminator.parameters()}
        assert [{id(w) in judges for w in group["params"]} for group in groups] == [{False}, {True}]

    monkeypatch.setattr(TrainWAE, "on_train_epoch_start", start)
    more = ("features=none", "net.training.lr=0.002", "net.training.lr_milestones=[[2,0.001]]")
    assert train(*words(digits_root, tmp_path, *more)) == 0
    assert rates == [pytest.approx(pair) for pair in [[2e-3, 1e-3]] * 2 + [[1e-3, 5e-4]] * 2]


# ---------------------------------------------------------------------- judging


def test_metrics_of_reconstructions_use_the_whole_image(digits_root, tmp_path, monkeypatch):
    """Against sums written out: 7x7 windows, sample covariance, data ranges 1 and 2; nothing is put back."""
    task = task_of(digits_root, tmp_path)
    images = task.data.test
    made = torch.rand(len(images), 1, 8, 8, generator=torch.Generator().manual_seed(1))
    parts = iter(made.split(task.eval_batch_size))
    monkeypatch.setattr(task.model, "forward", lambda *_: next(parts))
    found = task.evaluate(images)
    truth = images.batch(torch.arange(len(images))).truth.double().numpy()[:, 0]
    drawn = made.double().numpy()[:, 0]
    decibel = [-10 * np.log10(((a - b) ** 2).mean()) for a, b in zip(drawn, truth, strict=True)]
    similar: dict[float, list[float]] = {1.0: [], 2.0: []}
    for a, b in zip(drawn, truth, strict=True):
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
            p, q = a[y : y + 7, x : x + 7].ravel(), b[y : y + 7, x : x + 7].ravel()
            c = np.cov(p, q)
            for data_range, values in similar.items():
                c1, c2 = 1e-4 * data_range**2, 9e-4 * data_range**2
                top = (2 * p.mean() * q.mean() + c1) * (2 * c[0, 1] + c2)
                values.append(top / ((p.mean() ** 2 + q.mean() ** 2 + c1) * (c[0, 0] + c[1, 1] + c2)))
    assert found == {
        "psnr": pytest.approx(np.mean(decibel)),
        "ssim": pytest.approx(np.mean(similar[1.0])),
        "ssim_range2": pytest.approx(np.mean(similar[2.0])),
    }


def judge_of(run: RunFolder, root: Path, cache: Path) -> SampleFID:
    settings = Settings(run.path.parents[1], root, download=False, trainer={"accelerator": "cpu"})
    task = make_task(run.recipe, settings, open_data(run.recipe, settings))
    assert isinstance(task, TrainWAE) and task.fid is not None
    task.fid.cache = cache
    return task.fid


def test_samples_that_are_the_test_images_have_no_distance(whole, digits_root, tmp_path):
    judge = judge_of(whole, digits_root, tmp_path)
    judge.batch_size = 30
    truth = iter(judge.data.complete("test").batch(torch.arange(100)).truth.split(30))
    assert judge.measure(lambda n, _: next(truth)).value < 1e-5
    assert list(tmp_path.glob("fid-*.safetensors"))


def test_every_measurement_draws_the_same_codes_and_the_lowest_is_kept(whole, digits_root, tmp_path):
    judge, model = judge_of(whole, digits_root, tmp_path), load(whole)
    once, black, twice = (judge.measure(f) for f in (model.sample, lambda n, _: torch.zeros(n, 1, 8, 8), model.sample))
    assert once == twice and once.value < black.value
    assert judge.training_state() == {"lowest": once.value}
    assert once.value == whole.metrics["metrics"]["test/fid"]


# ---------------------------------------------------------------------- runs


def test_a_run_keeps_its_best_fid_and_says_how_it_was_taken(whole):
    metrics, protocols = whole.metrics["metrics"], whole.metrics["protocols"]
    history = [row["test/fid"] for row in read_history(whole.path / "metrics.jsonl")]
    assert len(history) == 4
    assert metrics["test/fid_best"] == pytest.approx(min(history)) and metrics["test/fid"] == pytest.approx(history[-1])
    assert metrics["test/fid_best"] < 0.9 * metrics["test/fid"], "or the last epoch would spoil nothing"
    for said in ("n=100 samples", "n=100 digits/test", "lenet", "84 features", "not resized"):
        assert said in protocols["test/fid"] and said in protocols["test/fid_best"]
    assert "lowest" in protocols["test/fid_best"]
    assert {path.name for path in whole.pictures.glob("*.png")} == {"samples.png", "reconstructions.png"}
    needed = whole.recipe.prerequisites["features"]
    assert needed.config["mask"]["name"] == "none"


def test_fid_is_measured_every_few_epochs_and_after_the_last(digits_root, tmp_path):
    more = (*QUICK_JUDGE, "net.training.fid_every=3")
    assert train(*words(digits_root, tmp_path, *more)) == 0
    history = read_history(folder(digits_root, tmp_path, *more).path / "metrics.jsonl")
    assert [row["epoch"] for row in history if "test/fid" in row] == [2, 3]


@pytest.mark.parametrize("step", [1, 10])
def test_a_resumed_run_is_bit_identical(step, whole, digits_root, tmp_path, monkeypatch):
    """In the first epoch, and in the last, after the one with the lowest FID."""
    original, calls = TrainWAE.step, [0]

    def killed(self: TrainWAE, batch: object, kind: object) -> object:
        if calls[0] == step:
            raise Killed
        calls[0] += 1
        return original(self, batch, kind)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(TrainWAE, "step", killed)
        patch.setattr(stepping, "CHUNK_SECONDS", 0)
        with pytest.raises(Killed):
            train(*words(digits_root, tmp_path, *SPOILT))
    run = folder(digits_root, tmp_path, *SPOILT)
    assert run.resumable and not run.finished
    assert train(*words(digits_root, tmp_path, *SPOILT)) == 0
    assert contents(run.path) == contents(whole.path)


def test_a_stored_run_is_the_trained_model(whole, digits_root):
    model = load(whole)
    assert isinstance(model, IncompleteAutoencoder) and not model.training
    settings = Settings(whole.path.parents[1], digits_root, download=False, trainer={"accelerator": "cpu"})
    task = make_task(whole.recipe, settings, open_data(whole.recipe, settings))
    assert isinstance(task, TrainWAE)
    task.model = model
    assert task.evaluate(task.data.test) == {
        k: whole.metrics["metrics"][f"test/{k}"] for k in ("psnr", "ssim", "ssim_range2")
    }
    image = torch.rand(3, 1, 8, 8)
    assert model.features(image).shape == (3, 4) and model(image, image > 0.5).shape == image.shape


def test_codes_of_an_auto_encoder_can_be_the_features(digits_root, tmp_path):
    more = ("features=autoencoder", *QUICK_JUDGE, "features.run.net.stages=[[4,1]]", "features.run.net.latent=3")
    assert train(*words(digits_root, tmp_path, *more)) == 0
    said = folder(digits_root, tmp_path, *more).metrics["protocols"]["test/fid"]
    assert "layer code" in said and "3 features" in said


MISTAKES = {
    "net=classifier_digits": "net=wae",
    "net.training.discriminator_lr=-1.0": "net.training.discriminator_lr",
    "net.training.fid_every=0": "net.training.fid_every",
    "net.training.reconstruction=some": "net.training.reconstruction",
    "data.test_images=1": "data.test_images",
    "task@features.run.task=density": "features.run.task",
    "features=inception": "torch-fidelity",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_before_anything_is_trained(mistake, digits_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    few = ["task=generate", "net=wae_digits", "stem=zero", "trainer.accelerator=cpu", mistake]
    assert train(*few, f"data.root={digits_root}", f"output={tmp_path}") != 0
    said = capsys.readouterr().err
    assert MISTAKES[mistake] in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
