"""A space holds what it says, and values survive the way to Optuna and back."""

from __future__ import annotations

import math
import random

import optuna
import pytest

from lacuna.errors import LacunaError
from lacuna.search.space import Parameter, parse_space

RATE = Parameter("a.lr", 1e-4, 1e-2, log=True)
SHARE = Parameter("a.dropout", 0.0, 0.5)
COUNT = Parameter("a.size", 16, 128, log=True, whole=True)
STEPS = Parameter("a.tenths", 0.1, 0.7, step=0.1)
SIXTEENS = Parameter("a.sixteens", 16, 64, step=16, whole=True)
NARROW = Parameter("a.decay", 0.999, 0.9999)
CHOICES = Parameter("a.choices", choices=(None, True, 1, "exact", [[32, 1], [64, 2]], 0.5))
EVERY = [RATE, SHARE, COUNT, STEPS, SIXTEENS, NARROW, CHOICES]


def parse(spec: object, old: object = 1.0) -> Parameter:
    (found,) = parse_space({"a.b": spec}, {"a.b": old}, "search=x")
    return found


@pytest.mark.parametrize("parameter", EVERY, ids=lambda p: p.key)
def test_what_optuna_proposes_is_inside_and_so_is_the_value(parameter: Parameter) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    seen = set()
    for _ in range(200):
        raw = study.ask({parameter.key: parameter.distribution()}).params[parameter.key]
        assert parameter.contains(raw)
        value = parameter.value(raw)
        assert parameter.raw(value) is not None and parameter.value(parameter.raw(value)) == value
        seen.add(str(value))
    assert len(seen) > 150 if parameter in (RATE, SHARE, NARROW) else len(seen) >= 4


def test_every_value_of_a_small_space_is_reached() -> None:
    def proposed(parameter: Parameter) -> list[str]:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        asked = [study.ask({"x": parameter.distribution()}).params["x"] for _ in range(200)]
        return sorted({str(parameter.value(raw)) for raw in asked})

    assert proposed(SIXTEENS) == ["16", "32", "48", "64"]
    assert proposed(STEPS) == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]
    assert proposed(CHOICES) == sorted(str(choice) for choice in CHOICES.choices or ())


def test_numbers_are_short_but_near() -> None:
    rng = random.Random(0)
    for _ in range(500):
        raw = 10 ** rng.uniform(-4, -2)
        assert math.isclose(RATE.value(raw), raw, rel_tol=1e-3) and len(f"{RATE.value(raw):.9g}") <= 10
        raw = rng.uniform(0.999, 0.9999)
        assert abs(NARROW.value(raw) - raw) <= 1e-6 and NARROW.low <= NARROW.value(raw) <= NARROW.high
    assert isinstance(COUNT.value(17), int)


def test_outside_is_outside() -> None:
    assert not RATE.contains(0.02) and not RATE.contains(9e-5) and not RATE.contains("x")
    assert not SIXTEENS.contains(17) and not STEPS.contains(0.15) and not COUNT.contains(16.5)
    assert STEPS.contains(0.1 + 0.1 + 0.1)
    assert CHOICES.raw(2) is None and CHOICES.raw("paper") is None and CHOICES.raw(None) == "null"
    # true is not 1, and no number
    assert CHOICES.value(CHOICES.raw(True)) is True and CHOICES.value(CHOICES.raw(1)) == 1
    assert RATE.raw(True) is None and RATE.raw(None) is None and RATE.raw("1e-3") is None


def test_kinds_come_from_the_configuration() -> None:
    assert parse({"low": 1, "high": 4}, 2).whole
    assert not parse({"low": 1, "high": 4}, 2.0).whole
    assert parse({"low": 1, "high": 4}, None).whole and not parse({"low": 1, "high": 4.5}, None).whole
    assert parse({"low": 1, "high": 4}, 2).kind == parse({"low": 2, "high": 9}, 2).kind
    kinds = [parse(spec, 2.0).kind for spec in ({"low": 1, "high": 4}, {"low": 1, "high": 4, "log": True})]
    kinds += [parse({"low": 1, "high": 4}, 2).kind, *(parse({"choices": c}).kind for c in ([1, 2], [1, 3]))]
    assert all(one != other for i, one in enumerate(kinds) for other in kinds[:i])
    assert parse({"low": 0.0, "high": 1.0, "step": 0.3}).high == pytest.approx(0.9)
    assert parse_space({"a": None, "b": {"choices": [1, 2]}}, {"b": 1}, "x")[0].key == "b"


@pytest.mark.parametrize(
    ("spec", "old", "sentence"),
    [
        (3, 1.0, "a.b needs {low: ..., high: ...}"),
        ({"low": 1}, 1.0, "a.b needs {low: ..., high: ...}"),
        ({"low": 1, "high": 2, "scale": "log"}, 1.0, "a.b needs {low: ..., high: ...}"),
        ({"low": 1, "high": 2, "choices": [1, 2]}, 1.0, "a.b needs {low: ..., high: ...}"),
        ({"low": 2, "high": 1}, 1.0, "low of a.b must be below high"),
        ({"low": 1.0, "high": 1.0}, 1.0, "low of a.b must be below high"),
        ({"low": "a", "high": 1}, 1.0, "must be numbers"),
        ({"low": False, "high": True}, 1.0, "must be numbers"),
        ({"low": 0.0, "high": math.inf}, 1.0, "must be numbers"),
        ({"low": 0.0, "high": 1.0, "log": True}, 1.0, "log of a.b"),
        ({"low": 0.1, "high": 1.0, "log": True, "step": 0.1}, 1.0, "log of a.b"),
        ({"low": 0.1, "high": 1.0, "log": "yes"}, 1.0, "log of a.b"),
        ({"low": 0.1, "high": 1.0, "step": 0}, 1.0, "step must fit"),
        ({"low": 0.1, "high": 1.0, "step": 2.0}, 1.0, "step must fit"),
        ({"low": 0.5, "high": 4}, 3, "must be whole numbers, because its value is one (now 3)"),
        ({"choices": [1]}, 1, "at least two different choices"),
        ({"choices": [1, 1]}, 1, "at least two different choices"),
        ({"choices": "ab"}, 1, "at least two different choices"),
        (None, 1, "no parameter to search"),
    ],
)
def test_mistakes_are_one_sentence(spec: object, old: object, sentence: str) -> None:
    with pytest.raises(LacunaError) as caught:
        parse(spec, old)
    assert sentence in str(caught.value) and str(caught.value).startswith("search=x: ")
    assert "\n" not in str(caught.value)
