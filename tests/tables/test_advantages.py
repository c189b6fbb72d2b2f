"""A table says which of its numbers rest on complete training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lacuna.report.table_notes import _advantages, protocol
from lacuna.runs.recipe import Recipe
from lacuna.tables.gather import gather
from tests.tables.finished import finish
from tests.tables.planning import plan, spec

ROWS = {"zero": {"label": "zero"}, "acflow": {"label": "ACFlow"}, "gt": {"reference": True}}


def said(root: Path, output: Path, rows: dict[str, Any]) -> list[tuple[str, str]]:
    (result,) = gather(plan(root, output, spec(rows=rows)))
    return [(what, how) for what, how in protocol(result) if "complete images" in how or "complete training" in how]


def test_a_flow_trained_on_complete_images_is_an_advantage(digits_root, tmp_path):
    rows = {**ROWS, "acflow": {"label": "ACFlow", "set": {"flow.complete": True}}}
    assert said(digits_root, tmp_path, rows) == [
        (
            "ACFlow",
            "an advantage: its flow was trained on complete images, which the other methods do not see (square, noise)",
        )
    ]


def test_a_flow_that_saw_holes_and_complete_references_have_none(digits_root, tmp_path):
    assert said(digits_root, tmp_path, {**ROWS, "acflow": {"set": {"flow.complete": False}}}) == []


@pytest.mark.parametrize("key", ["complete_donors", "published"])
def test_complete_donors_are_an_advantage(digits_root, tmp_path, key):
    rows = {"knn": {"label": "k-NN", "set": {f"stem.imputer.{key}": True}}, "acflow": {}}
    ((row, how),) = said(digits_root, tmp_path, rows)
    assert row == "k-NN" and "imputed from complete training images" in how
    assert "48 of 48 training images, 100%, are donors" in how.replace("\u00a0", " ")


def test_a_finished_run_knows_how_many_find_themselves(digits_root, tmp_path):
    rows = {"knn": {"label": "k-NN", "set": {"stem.imputer.published": True, "stem.imputer.donors": 300}}, "zero": {}}
    made = plan(digits_root, tmp_path, spec(rows=rows))
    for run in made.runs.values():
        finish(run.recipe, tmp_path, {"test/accuracy": 0.9}, images={"train": 1200, "test": 500})
    (result,) = gather(made)
    (how,) = [how for _, how in protocol(result) if "a leak" in how]
    assert "300 of 1 200 training images, 25%, are donors" in how.replace("\u00a0", " ")


def test_the_leak_is_as_large_as_the_share_of_donors(digits_root, tmp_path):
    """Counted on what was trained on where that is known, and otherwise on what is asked for of the published set."""
    content = {
        "task": {"name": "classify"},
        "mask": {"name": "square"},
        "data": {"name": "mnist", "type": "mnist.MNIST", "validation": 0, "train_images": None},
        "stem": {"imputer": {"published": True, "donors": 5000}},
    }

    def leak(train: int | None, **data: Any) -> str:
        (how,) = _advantages(Recipe({**content, "data": {**content["data"], **data}}), train)
        return how.replace("\u00a0", " ")

    assert "5 000 of 60 000 training images, 8%, are donors" in leak(None)
    assert "5 000 of 55 000 training images, 9%, are donors" in leak(None, validation=5000)
    assert "4 000 of 4 000 training images, 100%, are donors" in leak(None, train_images=4000)
    assert "5 000 of 20 000 training images, 25%, are donors" in leak(20_000)
