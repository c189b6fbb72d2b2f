"""Imputers: each replaces the missing pixels of incomplete images and returns the observed ones unchanged.

``from lacuna.imputers import Linear, KNN`` imports their modules only: names are imported on first use.

May import densities, flows, nets, data and the ground; layers and tasks import it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lacuna.imputers.acflow import FlowImputer as FlowImputer
    from lacuna.imputers.base import Imputer as Imputer
    from lacuna.imputers.density_mean import DensityMean as DensityMean
    from lacuna.imputers.gaussian import Gaussian as Gaussian
    from lacuna.imputers.harmonic import Harmonic as Harmonic
    from lacuna.imputers.knn import KNN as KNN
    from lacuna.imputers.linear import Linear as Linear
    from lacuna.imputers.mcflow import MCFlow as MCFlow
    from lacuna.imputers.misgan import MisGAN as MisGAN
    from lacuna.imputers.nearest import Nearest as Nearest
    from lacuna.imputers.nearest import RingNearest as RingNearest
    from lacuna.imputers.pbigan import PBiGAN as PBiGAN
    from lacuna.imputers.regression import Regression as Regression
    from lacuna.imputers.simple import Mean as Mean
    from lacuna.imputers.simple import Zero as Zero

_WHERE = {
    "DensityMean": "density_mean",
    "FlowImputer": "acflow",
    "Gaussian": "gaussian",
    "Harmonic": "harmonic",
    "Imputer": "base",
    "KNN": "knn",
    "Linear": "linear",
    "MCFlow": "mcflow",
    "Mean": "simple",
    "MisGAN": "misgan",
    "Nearest": "nearest",
    "PBiGAN": "pbigan",
    "Regression": "regression",
    "RingNearest": "nearest",
    "Zero": "simple",
}

__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"lacuna.imputers.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'lacuna.imputers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
