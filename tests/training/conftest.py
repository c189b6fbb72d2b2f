"""A run of MisConv, trained once, and the settings it was trained with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lacuna.runs.folder import RunFolder
from lacuna.runs.recipe import Recipe
from lacuna.runs.settings import Settings
from lacuna.training.run import execute
from tests.runs.real import TINY, recipe
from tests.training.trained import FAST


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="session")
def make(digits_root: Path) -> Callable[..., Recipe]:
    return lambda *words: recipe(*TINY, f"data.root={digits_root}", *words)


@pytest.fixture(scope="session")
def settings(output: Path, digits_root: Path) -> Settings:
    return Settings(output, digits_root, download=False, trainer=FAST)


@pytest.fixture(scope="session")
def misconv(make: Callable[..., Recipe], settings: Settings) -> RunFolder:
    return execute(make("stem=misconv"), settings, announce=False)
