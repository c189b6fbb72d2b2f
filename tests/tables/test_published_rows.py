"""Rows and columns that carry the name of something published have its settings; no data are needed to say so."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.tables.request import find_tables
from lacuna.tables.spec import TableSpec

TABLES, TRAIN = Composer(CONFIGS, "reproduce"), Composer(CONFIGS, "train")


@functools.cache
def specs(name: str) -> tuple[TableSpec, ...]:
    return tuple(find_tables(TABLES.base([f"table={name}"])["table"], TABLES))


def recipes(table: TableSpec, row_key: str) -> dict[str, Recipe]:
    """Column -> recipe of a cell, at the full budget."""
    (row,) = [row for row in table.rows if row.key == row_key]
    found = {}
    for column in table.columns:
        composed: dict[str, Any] = TRAIN.base([*table.choices(row, column)])
        values = {key: value for key, value in table.values(row, column).items() if TRAIN.has(composed, key)}
        found[column.key] = resolve(TRAIN.with_values(composed, values), "0123456789ab")
    return found


def test_the_authors_row_is_their_formula_density_and_classifier() -> None:
    (table,) = specs("misconv/baselines")
    made = recipes(table, "misconv_authors")
    stages = {"mnist": [[32, 1], [64, 1]], "svhn": [[32, 1], [64, 1]], "cifar10": [[32, 2], [64, 2]]}
    rates = {"mnist": (48, 4e-5), "svhn": (64, 4e-4), "cifar10": (128, 4e-5)}
    for data, recipe in made.items():
        net, density = recipe.config["net"], recipe.prerequisites["density"].config["density"]
        assert recipe.config["stem"]["formula"] == "authors"
        assert (net["variant"], net["stages"]) == ("authors", stages[data])
        assert (density["noise_floor"], density["noise_ceiling"]) == (1e-10, 1.0)
        assert density["net"].get("variant") == {"mnist": None}.get(data, "authors")
        training = density["training"]
        assert (training["batch_size"], training["lr"], training["lr_milestones"]) == (*rates[data], [])
    # the formula alone is a row of its own, on the density of everybody
    alone, exact = recipes(table, "misconv_formula"), recipes(table, "misconv")
    for data, recipe in alone.items():
        assert recipe.config["stem"]["formula"] == "authors" and recipe.config["net"] == exact[data].config["net"]
        assert recipe.prerequisites["density"].identity == exact[data].prerequisites["density"].identity


def test_smfa_as_published_takes_thirty_passes_everywhere() -> None:
    (six,), (seven,) = specs("misconv/table6"), specs("misconv/table7")
    rows = [recipes(six, row.key) for row in six.rows]
    both = [cells[key].prerequisites["density"] for cells in rows for key in ("smfa", "smfa_published")]
    both += [recipes(seven, key)["nll"] for key in ("smfa", "smfa_published")]
    assert len(both) == 8 and {recipe.training["epochs"] for recipe in both} == {30}
    published = [recipe.config for recipe in both if recipe.config["density"]["name"] == "smfa_authors"]
    assert len(published) == 4
    for content in published:
        told = {key: content["density"][key] for key in ("isotropic", "prior", "keep", "covariance", "complete")}
        assert told == {"isotropic": True, "prior": 0.0, "keep": 1, "covariance": "authors", "complete": True}
        assert content["mask"]["name"] == "none"
    sizes = {c["data"]["name"]: (c["density"]["components"], c["density"]["factors"]) for c in published}
    assert sizes["mnist"] == (50, 6)


def test_printed_similarities_stand_beside_ours_of_their_range() -> None:
    printed = 0
    for name in ("misconv/table4", "misconv/table7", "misconv/table4_authors"):
        (table,) = specs(name)
        for row in table.rows:
            for column in table.columns:
                metric = table.cell_metric(row, column)
                if "ssim" not in metric:
                    continue
                here = table.printed(row, column) is not None
                assert here <= (metric == "test/ssim_range2")
                assert ("range 2" if metric.endswith("range2") else "range 1") in column.label
                printed += here * (name != "misconv/table4_authors" and not row.key.endswith("published"))
    assert printed == 21 + 2  # of table 4 and of table 7


@pytest.mark.parametrize("number", [3, 4, 5])
def test_the_authors_tables_are_the_same_but_for_the_auto_encoder(number: int) -> None:
    (table,), (theirs,) = specs(f"misconv/table{number}"), specs(f"misconv/table{number}_authors")
    assert [row.key for row in table.rows] == [row.key for row in theirs.rows] and table.paper == theirs.paper
    assert [column.key for column in table.columns] == [column.key for column in theirs.columns]
    for one, other in zip(recipes(table, "zero").values(), recipes(theirs, "zero").values(), strict=True):
        assert other.config["net"]["name"] == "wae_authors" and other.config["net"]["variant"] == "authors"
        training = other.training
        assert training["discriminator_lr"] == training["lr"] == one.training["lr"]
        assert one.training["discriminator_lr"] == pytest.approx(
            one.training["adversarial_weight"] * one.training["lr"]
        )
        differing = {key for key in one.config if one.config[key] != other.config[key]}
        assert one.config.keys() == other.config.keys() and differing <= {"net", "budget"}  # the latter says so


def test_faces_are_judged_by_what_learned_their_attributes() -> None:
    (table,) = specs("misconv/table3")
    judges = {column: recipe.prerequisites["features"].config for column, recipe in recipes(table, "zero").items()}
    assert {column: judge["net"]["name"] for column, judge in judges.items()} == {
        "mnist": "lenet",
        "svhn": "resnet18",
        "celeba": "resnet_attributes",
    }
    assert all(judge["task"]["name"] == "classify" and judge["mask"]["name"] == "none" for judge in judges.values())
    assert judges["celeba"]["data"]["name"] == "celeba64" and judges["celeba"]["net"]["stages"][-1][0] == 256
