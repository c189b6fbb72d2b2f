"""A table says which of its numbers rest on complete training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lacuna.tables.facts import protocol
from lacuna.tables.gather import gather
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
            "an advantage: the flow behind it was trained on complete images, which others do not see (square, noise)",
        )
    ]


def test_a_flow_that_saw_holes_and_complete_references_have_none(digits_root, tmp_path):
    assert said(digits_root, tmp_path, {**ROWS, "acflow": {"set": {"flow.complete": False}}}) == []


@pytest.mark.parametrize("key", ["complete_donors", "published"])
def test_complete_donors_are_an_advantage(digits_root, tmp_path, key):
    rows = {"knn": {"label": "k-NN", "set": {f"stem.imputer.{key}": True}}, "acflow": {}}
    ((row, how),) = said(digits_root, tmp_path, rows)
    assert row == "k-NN" and "filled from complete training images" in how
