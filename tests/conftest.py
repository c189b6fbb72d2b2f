"""Fixtures that more than one folder of tests uses, and what needs a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from lacuna.data.sources.digits import Digits

LONGEST = (
    "verbs/test_reproduce.py",
    "gpu/test_rehearsal.py",
    "verbs/test_sweep.py",
    "training/test_ddp.py",
    "verbs/test_reproduce_slurm.py",
    "training/mirrors/test_wandb_runs.py",
    "docs/test_tutorials.py",
    "training/test_compile.py",
    "test_wheel.py",
    "docs/test_own_parts.py",
)
"""Files whose slow tests take a minute or more: they come first, so that no core waits for them in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first. Tests marked ``gpu`` are skipped where torch can use none."""
    here = Path(__file__).parent
    rank = {here / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
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
