"""No leak into imputers that are runs of their own, as in ``test_no_leak.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.laws.test_no_leak import differences, noise_behind, run_all, tampering, user_file

IMPUTERS = ("mean", "ring", "linear", "harmonic", "gaussian", "knn", "density_mean")


@pytest.mark.parametrize(
    "own", [0, pytest.param(1, marks=pytest.mark.slow), 3], ids=["complete", "own holes", "own holes per channel"]
)
def test_missing_values_change_no_imputer(own, tmp_path, monkeypatch):
    """Missing values of training images change nothing, those of test images only metrics of imputations."""
    file = user_file(tmp_path, own)

    def impute_all(output: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in IMPUTERS:
            found |= run_all(file, output, "zero", more=("task=impute", f"imputer={name}", "features=none"))
        return found

    clean = impute_all(tmp_path / "clean")
    assert sum(key.endswith("/test/rmse") and "dmfa" not in key for key in clean) == len(IMPUTERS)
    assert any(key.endswith("/covariance") for key in clean)
    for split in ("train", "test"):
        with monkeypatch.context() as patch:
            tampering(patch, noise_behind(split))
            changed = differences(clean, impute_all(tmp_path / f"tampered {split}"))
        assert all("/test/" in key for key in changed), changed
        metrics = {key for key in changed if key.endswith("/test/rmse") and "dmfa" not in key}
        assert len(metrics) == (len(IMPUTERS) if split == "test" else 0)
