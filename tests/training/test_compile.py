"""``trainer.compile=true`` changes how fast a run is, not what comes of it."""

from __future__ import annotations

import math
import os
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch

from lacuna.runs.folder import RunFolder
from lacuna.training.loading import load
from tests.runs.real import TINY, recipe, train

COMPILER = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), "")
HEADERS = Path(sysconfig.get_path("include")) / "Python.h"
WORDS = (
    *TINY,
    "budget=smoke",
    # every size of a batch is compiled anew: the last of the density is smaller, those of the classifier are equal
    "net.training.batch_size=24",
    "data.validation_images=10",
    "data.test_images=10",
    "density.net.filters=[4]",
    "density.net.kernels=[3]",
    "net.stages=[[4,1]]",
    "stem.filters=4",
)
NEEDS_COMPILER = pytest.mark.skipif(
    not (shutil.which(COMPILER) and HEADERS.is_file()), reason="needs a C++ compiler and Python.h"
)


@pytest.mark.slow
@NEEDS_COMPILER
def test_a_compiled_run_is_the_eager_one(digits_root: Path, tmp_path: Path) -> None:
    words = [*WORDS, f"data.root={digits_root}", "experiment=digits_misconv"]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    runs = {}
    for compiled in ("false", "true"):
        output = tmp_path / compiled
        assert train(*words, f"output={output}", f"trainer.compile={compiled}") == 0
        runs[compiled] = RunFolder.of(output, recipe(*words))
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert (graphs > 0) == (compiled == "true"), "compile=true compiles, and nothing else does"
    eager, compiled_run = runs["false"], runs["true"]
    assert eager.path.name == compiled_run.path.name, "the same recipe, the same identity"
    wanted, found = eager.metrics["metrics"], compiled_run.metrics["metrics"]
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert math.isclose(found[name], value, rel_tol=1e-4, abs_tol=1e-4), name
    x, mask = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8) > 0.4
    models = [load(run) for run in (eager, compiled_run)]
    assert all(type(module).__name__ != "OptimizedModule" for module in models[1].modules())
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(models[1](x, mask), models[0](x, mask), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@NEEDS_COMPILER
def test_a_compiled_prflow_is_the_eager_one(digits_root: Path, tmp_path: Path) -> None:
    """Its steps are its own, and neither pass is a forward; one refresh on the way."""
    words = (
        "experiment=digits_impute", "imputer=prflow_digits", "features=none", "imputer.flow.couplings=2",
        "imputer.flow.widths=[8]", "imputer.net.widths=[8]", "imputer.training.epochs=3", "imputer.training.stop=null",
        "imputer.training.gradients=leaky", "data.train_images=64", "data.validation_images=20",
        "data.test_images=30", "trainer.accelerator=cpu", "trainer.progress=false", f"data.root={digits_root}",
    )  # fmt: skip
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found = []
    for compiled in ("false", "true"):
        output = tmp_path / compiled
        assert train(*words, f"output={output}", f"trainer.compile={compiled}") == 0
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert (graphs >= 2) == (compiled == "true"), "one for each pass"
        found.append(RunFolder.of(output, recipe(*words)).metrics["metrics"]["test/rmse"])
    assert math.isclose(*found, rel_tol=1e-4)
