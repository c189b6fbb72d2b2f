"""lacuna: learning from incomplete images.

The library part, importable without any configuration:

* :class:`MFA`, the mixture of factor analysers: exact log-density, conditioning, moments, samples;
* :class:`MisConv2d` and :class:`PartialConv2d`, first layers for incomplete images;
* :func:`adapt`, which makes any CNN take (image, mask);
* :func:`load`, the trained model of a finished run; :func:`results`, the metrics of all finished runs;
* :mod:`masks`, :mod:`metrics` and :mod:`imputers`: ``from lacuna.imputers import Linear, KNN``.

Names are imported on first use, so that ``import lacuna`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lacuna import imputers as imputers
    from lacuna import metrics as metrics
    from lacuna.api import load as load
    from lacuna.data import masks as masks
    from lacuna.errors import LacunaError as LacunaError
    from lacuna.layers.adapt import adapt as adapt
    from lacuna.layers.misconv import MisConv2d as MisConv2d
    from lacuna.layers.partial import PartialConv2d as PartialConv2d
    from lacuna.mfa import MFA as MFA
    from lacuna.runs.results import results as results

_WHERE = {
    "MFA": "lacuna.mfa",
    "MisConv2d": "lacuna.layers.misconv",
    "PartialConv2d": "lacuna.layers.partial",
    "adapt": "lacuna.layers.adapt",
    "load": "lacuna.api",
    "results": "lacuna.runs.results",
    "LacunaError": "lacuna.errors",
}
_MODULES = {"masks": "lacuna.data.masks", "metrics": "lacuna.metrics", "imputers": "lacuna.imputers"}

__all__ = [*_WHERE, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'lacuna' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
