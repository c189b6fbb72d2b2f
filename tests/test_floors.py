"""The floors of the house: the contracts in pyproject.toml hold, and they notice what breaks them."""

from __future__ import annotations

import ast
import copy
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from importlinter import api
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = api.read_configuration(str(ROOT / "pyproject.toml"))
TYPES: dict[str, type[Contract]] = {
    "layers": LayersContract,
    "acyclic_siblings": AcyclicSiblingsContract,
    "forbidden": ForbiddenContract,
}
CONTRACTS = {
    options["id"]: TYPES[options["type"]](options["name"], OPTIONS["session_options"], options)
    for options in OPTIONS["contracts_options"]
}


@pytest.fixture(scope="module")
def house() -> grimp.ImportGraph:
    """Which module imports which, external packages included."""
    return grimp.build_graph("lacuna", include_external_packages=True, cache_dir=None)


@pytest.mark.parametrize("name", CONTRACTS)
def test_contract_holds(name: str, house: grimp.ImportGraph) -> None:
    check = CONTRACTS[name].check(copy.deepcopy(house), verbose=False)
    assert check.kept, f"run lint-imports: {check.metadata}"
    assert not check.warnings


@pytest.mark.parametrize(
    ("name", "importer", "imported"),
    [
        ("floors", "lacuna.nets", "lacuna.tasks"),
        ("floors", "lacuna.files", "lacuna.config"),
        ("floors", "lacuna.tables", "lacuna.inference"),
        ("circles", "lacuna.config.folders", "lacuna.config.compose"),
        ("planning", "lacuna.tables", "torch"),
        ("planning", "lacuna.config", "wandb"),
        ("models", "lacuna.imputers", "lacuna.tasks.base"),
        ("models", "lacuna.training.stored_model", "pytorch_lightning"),
        ("optional", "lacuna.training", "optuna"),
    ],
)
def test_what_breaks_a_contract_is_noticed(name: str, importer: str, imported: str, house: grimp.ImportGraph) -> None:
    spoilt = copy.deepcopy(house)
    assert {importer, imported} <= spoilt.modules
    spoilt.add_import(importer=importer, imported=imported)
    assert not CONTRACTS[name].check(spoilt, verbose=False).kept


def test_no_modules_import_each_other_in_a_circle(house: grimp.ImportGraph) -> None:
    """Whatever package they are in."""
    own = {module for module in house.modules if module.startswith("lacuna.")}
    TopologicalSorter({module: house.find_modules_directly_imported_by(module) & own for module in own}).prepare()


def test_every_package_says_what_lives_there() -> None:
    for file in (ROOT / "src" / "lacuna").rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), f"{file}: what lives there?"
