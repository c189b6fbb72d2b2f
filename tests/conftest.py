"""Fixtures that more than one folder of tests uses, what does not count for coverage, and what needs a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from lacuna.data.sources.digits import Digits


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests are not traced: that costs half as much again, and the others reach nearly all lines.

    Tests marked ``gpu`` are skipped where torch can use none.
    """
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")
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
