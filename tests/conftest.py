"""Fixtures that more than one folder of tests uses, and what needs a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from lacuna.data.sources.digits import Digits


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` are skipped where torch can use none."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if wanting:
        import torch

        if not torch.cuda.is_available():
            for item in wanting:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the digits are prepared; nobody changes it."""
    root = tmp_path_factory.mktemp("data")
    Digits().prepare(root, download=False)
    return root
