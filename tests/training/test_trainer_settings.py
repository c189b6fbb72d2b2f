"""``trainer.profiler``, ``deterministic`` and ``fast_dev_run``, and ``precision``, by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import lacuna
from lacuna.data.incomplete import Batch
from lacuna.flows.acflow import ACFlow
from lacuna.imputers.base import Imputer
from lacuna.runs.folder import RunFolder
from lacuna.tasks.classifier import TrainClassifier
from lacuna.verbs.command import verb
from tests.runs.mistakes import sentence
from tests.runs.real import TINY, contents, recipe, train
from tests.tasks.recorded import trained
from tests.tasks.test_recorded_steps import COMMON, RUNS

ZERO = (*TINY, "experiment=digits_zero")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, digits_root: Path) -> dict[str, bytes]:
    """A run without any of these settings."""
    return contents(trained(digits_root, tmp_path_factory.mktemp("plain"), *ZERO).path)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("simple", "run_training_epoch"),
        ("advanced", "cumulative"),
        pytest.param("pytorch", "aten::", marks=pytest.mark.slow),
    ],
)
def test_a_profile_is_a_file_in_the_runs_folder(
    kind: str,
    expected: str,
    plain: dict[str, bytes],
    digits_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (*ZERO, f"trainer.profiler={kind}", "net.training.epochs=2")
    run = trained(digits_root, tmp_path, *words)
    assert f"profile: {run.path / 'profile'}" in capsys.readouterr().out
    assert expected in (run.path / "profile" / f"fit-{kind}.txt").read_text()
    assert contents(run.path) == plain
    trained(digits_root, tmp_path, *words)
    assert "trainer.profiler: nothing is trained, so nothing is profiled" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["misconv", "acflow", "misgan", "mcflow, leaky"])
def test_deterministic_algorithms_change_nothing_on_the_cpu(name: str, digits_root: Path, tmp_path: Path) -> None:
    found = [
        contents(trained(digits_root, tmp_path / more, *RUNS[name], *COMMON, f"trainer.deterministic={more}").path)
        for more in ("false", "true")
    ]
    assert found[0] == found[1]
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_that_is_not_deterministic_is_refused_or_named(
    digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``put_`` says of itself, on any device, that it is not."""
    original = TrainClassifier.loss

    def loss(self: TrainClassifier, batch: Batch) -> tuple[torch.Tensor, int]:
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
        return original(self, batch)

    monkeypatch.setattr(TrainClassifier, "loss", loss)
    with pytest.raises(RuntimeError, match="deterministic"):
        train(*ZERO, f"data.root={digits_root}", f"output={tmp_path}", "trainer.deterministic=true")
    with pytest.warns(UserWarning, match="deterministic"):
        trained(digits_root, tmp_path, *ZERO, "trainer.deterministic=warn")


def test_fewer_batches_are_the_first_of_each_epoch(digits_root: Path, tmp_path: Path) -> None:
    """Of 3 batches of 32 of 96 images: with as many as there are, nothing changes but the name of the run."""
    whole = trained(digits_root, tmp_path, *ZERO)
    same = trained(digits_root, tmp_path, *ZERO, "net.training.limit_batches=3")
    fewer = trained(digits_root, tmp_path, *ZERO, "net.training.limit_batches=2")
    weights = [load_file(run.path / "model.safetensors") for run in (whole, same, fewer)]
    assert len({run.path for run in (whole, same, fewer)}) == 3
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not all(torch.equal(value, weights[2][name]) for name, value in weights[0].items())


def test_a_trial_goes_through_all_phases_and_leaves_nothing(
    digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("experiment=digits_misconv", *COMMON, "trainer.fast_dev_run=2", "logger=wandb")
    assert train(*words, f"data.root={digits_root}", f"output={tmp_path / 'outputs'}") == 0
    said = capsys.readouterr().out
    assert "a trial: 2 steps of every training" in said
    assert "DMFA · budget cut · seed 0: 2 steps" in said and "MisConv · budget cut · seed 0: 2 steps" in said
    assert "test/accuracy" in said and "pictures drawn: first_layer.png, imputations.png" in said
    assert not (tmp_path / "outputs").exists()
    folders = [line.split(": ")[1] for line in said.splitlines() if line.startswith("training: ")]
    assert len(folders) == 2 and not any(Path(folder).exists() for folder in folders)


def test_only_train_takes_a_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("table=demo", f"output={tmp_path}", "trainer.fast_dev_run=1", "data.download=false")
    code = verb("reproduce", "lacuna.verbs.reproduce:main")(words)
    assert "only train.py takes it" in sentence(code, capsys.readouterr().err)


SLOW = ("wae", "mcflow, clean", "pbigan", "partial", "acflow")


@pytest.mark.parametrize(
    "name", ["misconv", "misgan", "unet", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)]
)
def test_double_precision(name: str, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights are float64; a model that is loaded is float32 and computes; evaluation repeats the run's metrics."""
    words = (*RUNS[name], *COMMON, "precision=64-true")
    run = trained(digits_root, tmp_path, *words)
    weights = {n: w for n, w in load_file(run.path / "model.safetensors").items() if w.is_floating_point()}
    assert weights and all(weight.dtype == torch.float64 for weight in weights.values())
    assert torch.get_default_dtype() == torch.float32
    model = lacuna.load(run.path)
    images, mask = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8) > 0.5
    loaded = model.state_dict()
    for key, value in weights.items():
        torch.testing.assert_close(loaded[key], value.float() if loaded[key].dtype == torch.float32 else value)
    impute = model.impute if isinstance(model, Imputer) else model.mean if isinstance(model, ACFlow) else model
    found = impute(images, mask)
    assert found.dtype == torch.float32 and bool(found.isfinite().all())
    evaluated = verb("evaluate", "lacuna.verbs.evaluate:main")(
        (f"run={run.path.name}", f"output={tmp_path}", f"data.root={digits_root}", "trainer.accelerator=cpu")
    )
    assert evaluated == 0
    said = capsys.readouterr().out.split("run folder")[1]
    for metric, value in run.metrics["metrics"].items():
        split, _, quantity = metric.partition("/")
        assert split != "test" or quantity not in said or f"{value:.4f}" in said


def test_double_and_single_precision_agree_up_to_rounding(digits_root: Path, tmp_path: Path) -> None:
    """One step from the same weights and masks: the loss of the first epoch, of a density fitted by EM."""
    words = ("experiment=digits_smfa", "density.training.epochs=2", *COMMON)
    runs = [trained(digits_root, tmp_path, *words, f"precision={name}") for name in ("32-true", "64-true")]
    single, double = (run.metrics["metrics"] for run in runs)
    for name, value in single.items():
        assert double[name] == pytest.approx(value, rel=1e-3, abs=1e-4)
    assert isinstance(runs[0], RunFolder) and recipe(*words).identity == runs[0].recipe.identity
