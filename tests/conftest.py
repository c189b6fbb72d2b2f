"""Fixtures that more than one folder of tests uses, and which tests may run side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from lacuna.data.sources.digits import Digits

TESTS = Path(__file__).parent
BUSY = (
    "executors/test_on_ray.py",
    "executors/test_on_ray_cluster.py",
    "runs/test_ddp.py",
    "search/test_verb.py",
    "tables/test_reproduce.py",
)
"""Files whose tests start several processes that work at the same time."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What processes share (``--dist loadgroup``), in which order, and what counts for coverage.

    The tests of a file stay together. Busy files are one group, the first: two of them at once would starve each other,
    Ray's workers first of all, which run at a low priority. Then files with slow tests, so that all ends at about the
    same time. Slow tests do not count for coverage: tracing costs half as much again, and the others reach nearly all.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    for item in slow:
        item.add_marker("no_cover")
    files, busy = {item.path for item in slow}, {TESTS / name for name in BUSY}
    for item in items:
        name = "busy" if item.path in busy else item.path.relative_to(TESTS).as_posix()
        item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: (item.path not in busy, item.path not in files))


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the digits are prepared; nobody changes it."""
    root = tmp_path_factory.mktemp("data")
    Digits().prepare(root, download=False)
    return root
