"""How many runs share a card: as many as are fastest, and never more than its memory holds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lacuna.throughput import measurements
from lacuna.throughput.measurements import FILL, Measurements, chosen_number, most_that_fit
from tests.throughput.made_up import GIB, row


@pytest.mark.parametrize(
    ("times", "number"),
    [
        ({}, 1),
        ({"n2": 20.0}, 1),  # two take twice as long
        ({"n2": 10.0, "n4": 10.0, "n8": 10.0}, 8),  # the card was idle
        ({"n2": 10.0, "n4": 10.0, "n8": 20.0}, 4),  # as many steps per second with four
        ({"n2": 10.0, "n4": 30.0}, 2),
        ({"n2": 12.0, "n4": 23.5}, 2),  # 2 % more are not worth it
        ({"n2": 12.0, "n4": 22.0}, 4),  # 9 % are
    ],
)
def test_as_many_as_give_the_most_steps_a_second(times: dict[str, float], number: int) -> None:
    assert chosen_number(row(10.0, **times), memory=100 * GIB) == number


def test_memory_comes_first() -> None:
    fast = {"n2": 10.0, "n4": 10.0, "n8": 10.0}
    assert [chosen_number(row(10.0, memory, **fast), 16 * GIB) for memory in (1.8, 1.9, 3.7, 7.3, 99)] == [
        8,
        4,
        2,
        1,
        1,
    ]


def test_as_by_trying_all_of_them() -> None:
    draw = random.Random(0)
    for _ in range(200):
        times = {f"n{number}": draw.uniform(5, 60) for number in (2, 4, 8)}
        found, memory = row(10.0, draw.uniform(0.5, 9), **times), draw.uniform(1, 40) * GIB
        number = chosen_number(found, int(memory))
        speed = {1: 0.1, **{n: n / times[f"n{n}"] for n in (2, 4, 8)}}
        possible = [n for n in speed if n == 1 or n * found["memory"] <= FILL * memory]
        assert number in possible and all(speed[number] * measurements.GAIN >= speed[n] for n in possible)
        assert all(max(speed[m] for m in possible) > measurements.GAIN * speed[n] for n in possible if n < number)
        assert number <= most_that_fit(found, int(memory))


def test_kinds_without_a_measurement_get_the_median_that_fits_the_largest() -> None:
    shared = {"n2": 10.0, "n4": 10.0, "n8": 10.0}
    known = Measurements("A GPU", 80 * GIB, {"a": row(10, **shared), "b": row(10, n2=10.0), "c": row(10)})
    assert [known.number(key) for key in ("a", "b", "c", "d")] == [8, 2, 1, None]
    assert known.default == 2
    known.rows["b"]["memory"] = 50 * GIB  # only one of these fits, and the unknown ones may be as large
    assert known.default == 1
    assert Measurements("A GPU", GIB).default is None
    # steps that could not be timed, perhaps for lack of memory: such a run has a card for itself
    known.rows["e"] = {"error": "no memory", "slow": False}
    assert known.number("e") == 1 and known.default == 1


def test_kept_for_the_same_hardware_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Measurements("A GPU", 80 * GIB, {"a": row(10, n2=11.0), "x": {"error": "no memory", "slow": False}})
    first.save(tmp_path)
    kept = Measurements.load(tmp_path, "A GPU")
    assert kept == Measurements("A GPU", 80 * GIB, {"a": first.rows["a"]})  # what failed is tried again
    Measurements("A GPU", 40 * GIB, {"b": row(5)}).save(tmp_path)  # of another command
    assert set(Measurements.load(tmp_path, "A GPU").rows) == {"a", "b"}
    assert Measurements.load(tmp_path, "A-GPU") == Measurements("A-GPU")
    monkeypatch.setattr(measurements, "PACKAGES", ("lacuna", "torch", "numpy"))
    assert Measurements.load(tmp_path, "A GPU").rows == {}
    (file,) = (tmp_path / ".cache" / "throughput").iterdir()
    file.write_text("{")
    assert Measurements.load(tmp_path, "A GPU").rows == {}
