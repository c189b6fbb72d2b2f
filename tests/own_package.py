"""Packages as other people write them, in a folder that Python searches: for the tests of ``plugins=``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lacuna import plugins

ROW_MEAN = """
from typing import ClassVar

from lacuna.imputers.base import Imputer


class RowMean(Imputer):
    cheap: ClassVar[bool] = True

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def _impute(self, observed, mask):
        mask = mask.expand_as(observed)
        row = observed.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
        return self.factor * row.expand_as(observed)
"""
"""An imputer from scratch."""

FAMILIES = """
from torch import nn

from lacuna.data.masks import Square as OwnSquare
from lacuna.data.sources.digits import Digits as OwnDigits
from lacuna.densities.dmfa import DMFA as OwnDMFA
from lacuna.flows.acflow import ACFlow as OwnACFlow
from lacuna.imputers.simple import Mean as OwnMean
from lacuna.layers.stem import ImputeStem as OwnImputeStem
from lacuna.nets.classifier import Classifier as OwnClassifier
from lacuna.tasks.classifier import TrainClassifier as OwnTrainClassifier


class Square(OwnSquare): ...
class Digits(OwnDigits): ...
class DMFA(OwnDMFA): ...
class ACFlow(OwnACFlow): ...
class Mean(OwnMean): ...
class ImputeStem(OwnImputeStem): ...
class Classifier(OwnClassifier): ...
class TrainClassifier(OwnTrainClassifier): ...


class Halves(nn.Module):
    def forward(self, images):
        return images.flatten(1).unflatten(1, (2, -1)).mean(2)
"""
"""A class of every family: lacuna's own with another home, so that every number must be the same."""


def write(folder: Path, name: str, modules: dict[str, str], *, version: str | None = None, announced=False) -> Path:
    """A package in a folder: its modules' sources by name; with ``version`` as if pip had installed it."""
    package = folder / name
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    for module, source in modules.items():
        (package / f"{module}.py").write_text(source)
    if version is not None:
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if announced:
            (info / "entry_points.txt").write_text(f"[lacuna.plugins]\nparts = {name}\n")
    return package


@contextmanager
def searched(folder: Path) -> Iterator[None]:
    """Python finds the packages in ``folder``; afterwards it has forgotten them."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        names = {path.stem for path in folder.iterdir()}
        for module in [m for m in sys.modules if m.partition(".")[0] in names]:
            del sys.modules[module]
        plugins._version.cache_clear()
        plugins.announced_packages.cache_clear()
