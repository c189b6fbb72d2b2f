"""What ``trainer`` sets to be faster leaves results within noise; mistakes in it are named."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lacuna.runs.folder import RunFolder
from lacuna.runs.settings import Settings
from lacuna.training import speed
from tests.runs.real import TINY, recipe, train


class TF32Convolutions(TorchDispatchMode):
    """Rounds the factors of every convolution, of its gradients too, to 10 bits, as tensor cores do."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        count = {"convolution": 2, "convolution_backward": 3}.get(func.overloadpacket.__name__, 0)
        return func(*map(rounded, args[:count]), *args[count:], **(kwargs or {}))


def rounded(x: Tensor) -> Tensor:
    """float32 to the nearest number with 10 bits after the leading one; other types as they are."""
    if x.dtype != torch.float32:
        return x
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def test_rounding_to_ten_bits() -> None:
    x = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-12, -3.0, 0.0])
    assert rounded(x).tolist() == [1.0, 1 + 2**-10, 1.0, -3.0, 0.0]
    y = torch.randn(1000)
    assert 0 < float(((rounded(y) - y) / y).abs().max()) <= 2**-11


RUNS = {
    "test/loss": ("experiment=digits_misconv",),
    "test/nll_per_dim": ("experiment=digits_dmfa",),
    "test/rmse": (
        "experiment=digits_impute",
        "features=none",
        "imputer=unet_digits",
        "imputer.training.epochs=2",
        "imputer.training.batch_size=32",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("metric", RUNS)
def test_tf32_changes_less_than_a_new_seed(metric: str, digits_root: Path, tmp_path: Path) -> None:
    def result(name: str, seed: int, mode: Any) -> float:
        words = (*RUNS[metric], *TINY, f"seed={seed}", f"data.root={digits_root}", f"output={tmp_path / name}")
        with mode:
            assert train(*words) == 0
        return float(RunFolder.of(tmp_path / name, recipe(*words)).metrics["metrics"][metric])

    seeds = [result("plain", seed, contextlib.nullcontext()) for seed in range(3)]
    apart = abs(result("rounded", 0, TF32Convolutions()) - seeds[0])
    assert 0 < apart < 0.1 * (max(seeds) - min(seeds)), (apart, seeds)


@pytest.mark.parametrize("key", ["step", "tf32", "channels_last", "compile"])
@pytest.mark.parametrize("value", ["fast", 1, []])
def test_mistakes_are_named(
    key: str, value: Any, digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(speed.LacunaError, match=rf"trainer\.{key}={'fast' if value == 'fast' else ''}"):
        speed.check_speed(Settings(tmp_path, digits_root, False, {key: value}))
    if value == "fast":
        words = ("experiment=digits_zero", *TINY, f"trainer.{key}=fast", f"data.root={digits_root}")
        assert train(*words, f"output={tmp_path}") == 2
        assert f"error: trainer.{key}=fast" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_graph_is_refused_on_the_cpu_in_a_line(
    digits_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("experiment=digits_zero", *TINY, "trainer.step=graph", f"data.root={digits_root}", f"output={tmp_path}")
    assert train(*words) == 0
    assert "a graph needs a GPU, and this training is on cpu" in capsys.readouterr().err


def test_long_trainings_are_compiled_on_a_gpu_only(
    digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the plan counts steps; ``true`` and ``false`` hold everywhere."""
    made = recipe("experiment=digits_zero", *TINY, f"data.root={digits_root}")  # 2 epochs of 3 batches
    asked: list[str] = []

    class Model:
        def to(self, memory_format: Any) -> None:
            asked.append("channels_last")

        def compile(self) -> None:
            asked.append("compile")

    def settle(device: str, **options: Any) -> list[str]:
        asked.clear()
        data = type("Data", (), {"device": torch.device(device)})
        task: Any = type("Task", (), {"data": data, "model": Model()})
        speed.set_speed(task, made, Settings(tmp_path, digits_root, False, options))
        return list(asked)

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "unchanged")
    assert settle("cpu") == [] and settle("cuda") == ["channels_last"]
    monkeypatch.setattr(speed, "COMPILE_FROM", 6)
    assert settle("cpu") == [] and settle("cuda") == ["channels_last", "compile"]
    monkeypatch.setattr(speed, "COMPILE_FROM", 7)
    assert settle("cuda") == ["channels_last"]
    assert settle("cpu", compile=True, channels_last=True) == ["channels_last", "compile"]
    monkeypatch.setattr(speed, "COMPILE_FROM", 6)
    assert settle("cuda", compile=False, channels_last=False) == []
