"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from lacuna.data.sources.digits import Digits


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that processes which share the files end at about the same time.

    Slow tests do not count for coverage: tracing costs half as much again, and the quick ones reach what they reach.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    for item in slow:
        item.add_marker("no_cover")
    files = {item.path for item in slow}
    items.sort(key=lambda item: item.path not in files)


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the digits are prepared; nobody changes it."""
    root = tmp_path_factory.mktemp("data")
    Digits().prepare(root, download=False)
    return root
