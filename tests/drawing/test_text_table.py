from __future__ import annotations

import statistics

import pytest

from lacuna.drawing.text_table import best_cells, cell_number, cell_text, markdown_table, mean_sd, text_table
from lacuna.errors import LacunaError

ROWS: list[dict[str, object]] = [
    {"method": "zero", "accuracy": 0.679, "rmse": "0.4550 ± 0.0100", "n": 10_000},
    {"method": "k-NN", "accuracy": 0.7, "rmse": "0.3289", "n": 10_000},
    {"method": "misconv", "accuracy": None, "rmse": "–", "note": "not done | yet"},
]


def test_mean_and_standard_deviation_over_seeds() -> None:
    values = [0.91, 0.93, 0.95]
    assert mean_sd(values, digits=3) == f"0.930 ± {statistics.stdev(values):.3f}"
    assert mean_sd([0.5, None]) == "0.5000"
    assert mean_sd([None]) == mean_sd([]) == "–"
    assert mean_sd([float("nan"), 1.0]) == "nan"


def test_cells() -> None:
    assert [cell_text(v) for v in (None, True, 3, 12345, 0.5, float("nan"), "x")] == [
        "–", "yes", "3", "12 345", "0.5000", "–", "x",
    ]  # fmt: skip
    assert [cell_number(v) for v in ("0.91 ± 0.02", "-1e-3", "–", None, True, 2, float("inf"))] == [
        0.91, -0.001, None, None, None, 2.0, None,
    ]  # fmt: skip


def test_best_value_wins_and_ties_share() -> None:
    assert best_cells(ROWS, {"accuracy": "max", "rmse": "min"}) == {(1, "accuracy"), (1, "rmse")}
    assert best_cells([{"a": 1}, {"a": 1}], {"a": "max"}) == {(0, "a"), (1, "a")}
    assert best_cells([{"a": 1}, {"a": None}], {"a": "max"}) == set()
    with pytest.raises(LacunaError, match="'max' or 'min'"):
        best_cells(ROWS, {"accuracy": "high"})


def test_text_table_is_aligned() -> None:
    lines = text_table(ROWS, best={"accuracy": "max"}).splitlines()
    assert lines[0].split() == ["method", "accuracy", "rmse", "n", "note"]
    assert "0.7000*" in lines[3]
    # Digits stand under digits: the decimal points of a column share one position.
    assert len({line.index("0.") for line in lines[2:4]}) == 1
    assert all(line == line.rstrip() for line in lines)
    assert text_table([]) == "(nothing yet)"


def test_markdown_table() -> None:
    lines = markdown_table(ROWS, best={"accuracy": "max"}).splitlines()
    assert lines[0] == "| method | accuracy | rmse | n | note |"
    assert lines[1] == "| --- | ---: | ---: | ---: | --- |"
    assert "**0.7000**" in lines[3]
    assert "not done \\| yet" in lines[4] and len(lines) == 5
    assert markdown_table([]) == "(nothing yet)"
