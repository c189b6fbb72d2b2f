"""EM as a run: by the command line, evaluated, stored, interrupted, opened again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lacuna.densities.em import EM
from lacuna.densities.smfa import SMFA
from lacuna.runs.folder import RunFolder
from lacuna.tasks.common import stepping
from lacuna.tasks.smfa import FitSMFA
from lacuna.training.loading import load
from lacuna.training.loggers import read_history
from tests.runs.real import contents, recipe, train

EM_RUN = (
    "task=density",
    "task.type=smfa.FitSMFA",
    "density=smfa_digits",
    "density.components=4",
    "density.factors=2",
    "density.training.epochs=4",
    "density.training.batch_size=100",
    "data.validation=100",
    "data.train_images=300",
    "data.test_images=100",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "trainer.checkpoint_seconds=0",
)


class Killed(BaseException):
    """Stands for SIGKILL: it is never caught."""


def words(root: Path, output: Path, *more: str) -> tuple[str, ...]:
    return (*EM_RUN, *more, f"data.root={root}", f"output={output}")


def folder(root: Path, output: Path, *more: str) -> RunFolder:
    return RunFolder.of(output, recipe(*words(root, output, *more)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, digits_root: Path) -> RunFolder:
    output = tmp_path_factory.mktemp("whole")
    assert train(*words(digits_root, output)) == 0
    return folder(digits_root, output)


def test_it_learns_and_is_evaluated_like_every_density(whole):
    losses = [row["train/loss"] for row in read_history(whole.path / "metrics.jsonl")]
    assert len(losses) == 4 and losses == sorted(losses, reverse=True)
    metrics = whole.metrics["metrics"]
    assert {"test/nll_per_dim", "test/rmse", "test/psnr", "test/ssim"} <= metrics.keys()
    # the variance of missing pixels of digits is 0.11: the error of imputing their mean
    assert metrics["test/mse"] < 0.085 and metrics["test/nll_per_dim"] < 0
    model = load(whole)
    assert isinstance(model, SMFA) and model.started and model.mixture.components == 4
    assert list(whole.pictures.glob("*.png"))


def test_the_logged_loss_is_that_at_the_start_of_each_pass(whole, digits_root, monkeypatch, tmp_path):
    """The last pass starts from the result of a run with one pass less."""
    assert train(*words(digits_root, tmp_path, "density.training.epochs=3")) == 0
    model = load(folder(digits_root, tmp_path, "density.training.epochs=3"))
    calls: list[tuple[torch.Tensor, int]] = []
    original = EM.add

    def add(self: EM, density: SMFA, observed: torch.Tensor, mask: torch.Tensor) -> None:
        calls.append((model.log_prob(observed, mask).sum(), int(mask.expand_as(observed).sum())))
        original(self, density, observed, mask)

    monkeypatch.setattr(EM, "add", add)
    assert train(*words(digits_root, tmp_path, "density.training.epochs=1")) == 0
    loss = -sum(total.item() for total, _ in calls) / sum(count for _, count in calls)
    last = list(read_history(whole.path / "metrics.jsonl"))[-1]["train/loss"]
    assert last == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("step", [1, 5, 8])
def test_interrupted_it_goes_on_bit_for_bit(step, whole, digits_root, tmp_path, monkeypatch):
    """Three batches a pass: in the middle of the first, in the middle of another, and between passes."""
    original, calls = FitSMFA.step, [0]

    def killed(self: FitSMFA, batch: object, kind: object) -> None:
        if calls[0] == step:
            raise Killed
        calls[0] += 1
        original(self, batch, kind)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(FitSMFA, "step", killed)
        patch.setattr(stepping, "CHUNK_SECONDS", 0)
        with pytest.raises(Killed):
            train(*words(digits_root, tmp_path))
    run = folder(digits_root, tmp_path)
    assert run.resumable and not run.finished
    continued = []
    monkeypatch.setattr(SMFA, "start", lambda *_, **__: continued.append("started anew"))
    assert train(*words(digits_root, tmp_path)) == 0
    assert not continued
    assert contents(run.path) == contents(whole.path)


def test_complete_images_give_the_same_in_less_time(digits_root, tmp_path, monkeypatch):
    original, found = EM.add, {}
    for short in (True, False):
        taken: list[bool] = []

        def add(self: EM, *arguments: object, short: bool = short, taken: list[bool] = taken) -> None:
            taken.append(self.complete)
            self.complete = self.complete and short
            original(self, *arguments)  # type: ignore[arg-type]

        output = tmp_path / str(short)
        with monkeypatch.context() as patch:
            patch.setattr(EM, "add", add)
            assert train(*words(digits_root, output, "mask=none")) == 0
        assert taken[0]
        found[short] = load(folder(digits_root, output, "mask=none")).state_dict()
    for key, value in found[True].items():
        torch.testing.assert_close(value, found[False][key], rtol=1e-3, atol=1e-4)


def test_what_em_cannot_fit_is_refused(digits_root, tmp_path, capsys):
    chosen = ("task=density", "task.type=smfa.FitSMFA", "density=dmfa_digits", "trainer.accelerator=cpu")
    assert train(*chosen, f"data.root={digits_root}", f"output={tmp_path}") != 0
    assert "density.type=smfa.SMFA" in capsys.readouterr().err


def test_complete_images_are_an_advantage_that_is_asked_for(digits_root, tmp_path):
    """``density.complete``: EM is fitted to complete images, which improves its metrics."""
    found = {}
    for complete in ("false", "true"):
        more = (f"density.complete={complete}", "density.components=12", "density.factors=4")
        assert train(*words(digits_root, tmp_path, *more)) == 0
        run = folder(digits_root, tmp_path, *more)
        assert run.recipe.config["mask"]["name"] == ("none" if complete == "true" else "square")
        found[complete] = run.metrics["metrics"]
    # both are evaluated on squares of the same size, at different positions
    assert found["true"]["test/mse"] < found["false"]["test/mse"]


def test_misconv_uses_a_mixture_fitted_by_em(digits_root, tmp_path):
    """The density a stem needs is fitted in the mixture's own way, and complete only where the stem's data are not."""
    more = tuple(word for word in words(digits_root, tmp_path) if not word.startswith("task"))
    more = (*more, "stem=misconv", "net.training.epochs=1", "density.complete=true", "density.keep=1")
    assert train(*more) == 0
    run = RunFolder.of(tmp_path, recipe(*more))
    fitted = run.recipe.prerequisites["density"]
    assert fitted.config["task"]["type"] == "smfa.FitSMFA"
    assert (run.recipe.config["mask"]["name"], fitted.config["mask"]["name"]) == ("square", "none")
    assert isinstance(load(run).stem.frozen, SMFA) and load(run).stem.frozen.keep == 1
