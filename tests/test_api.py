"""The package as a library: the names that ``import lacuna`` gives, and its cost."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

import lacuna
from lacuna import imputers, registry
from lacuna.config.paths import CONFIGS


def test_every_public_name_is_there():
    for name in lacuna.__all__:
        assert getattr(lacuna, name) is not None
        assert name in dir(lacuna)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="colour"):
        lacuna.colour  # noqa: B018


def test_importing_is_cheap():
    code = "import sys, lacuna; print([m for m in ('torch', 'numpy', 'hydra') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_imputer_is_imported_from_one_place_and_alone():
    types = {yaml.safe_load(path.read_text()).get("type") for path in (CONFIGS.main / "imputer").glob("*.yaml")} - {
        None
    }
    assert len(types) > 10
    for kind in types:
        name = kind.split(".")[1]
        assert getattr(imputers, name) is registry.find("imputer", kind), f"{name} in lacuna/imputers/__init__.py"
    assert set(imputers.__all__) >= {kind.split(".")[1] for kind in types} | {"Imputer", "FlowImputer"}
    with pytest.raises(AttributeError, match="Lineal"):
        imputers.Lineal  # noqa: B018
    code = (
        "import sys; import lacuna.imputers; print([m for m in ('torch', 'scipy') if m in sys.modules]);"
        "from lacuna.imputers import Linear, KNN; print(Linear.__module__, [m for m in sys.modules if 'mcflow' in m])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout.splitlines() == ["[]", "lacuna.imputers.linear []"], said.stderr


def test_the_version_is_that_of_the_change_log():
    """One number in the package; the citation and pyproject.toml (dynamic) follow it."""
    root = CONFIGS.main.parent
    assert yaml.safe_load((root / "CITATION.cff").read_text())["version"] == lacuna.__version__
