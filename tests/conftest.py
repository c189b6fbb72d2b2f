"""Fixtures that more than one folder of tests uses, and what does not count for coverage."""

from __future__ import annotations

from pathlib import Path

import pytest

from lacuna.data.sources.digits import Digits


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests are not traced: that costs half as much again, and the others reach nearly all lines."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the digits are prepared; nobody changes it."""
    root = tmp_path_factory.mktemp("data")
    Digits().prepare(root, download=False)
    return root
