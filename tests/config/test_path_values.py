"""Names of files, folders and runs that look like numbers stay what was typed."""

from __future__ import annotations

import pytest

from lacuna.config.compose import compose
from lacuna.config.jobs import jobs
from lacuna.config.path_values import quoted
from lacuna.config.paths import CONFIGS

NAMES = ["2024", "2024_01", "007", "1e3", "0.50", "-3", "1_000.5", "nan", "true", "inf", "2024-01-31", "my/2024", "a1"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_word_that_was_typed(name):
    for words in ([f"input={name}", f"to={name}", f"run={name}", f"output={name}"], [f"input='{name}'", f"to={name}"]):
        config = compose(CONFIGS, "impute", words)
        assert config["input"] == config["to"] == name
    config = compose(CONFIGS, "train", ["data=folder", f"data.path={name}", f"++data.labels_csv={name}"])
    assert config["data"]["path"] == config["data"]["labels_csv"] == name


def test_each_of_several_names_is_the_word_that_was_typed():
    found = jobs(CONFIGS, "train", ["data=folder", "data.path=2024_01,1e3,b", "seed=1,2"])
    assert [config["data"]["path"] for config in found.configs] == ["2024_01"] * 2 + ["1e3"] * 2 + ["b"] * 2
    assert [config["seed"] for config in found.configs] == [1, 2] * 3
    again = [compose(CONFIGS, "train", job) for job in found.overrides]  # as the jobs' processes do
    assert [config["data"]["path"] for config in again] == [config["data"]["path"] for config in found.configs]


@pytest.mark.parametrize("word", ["seed=3", "data.size=32", "data.path=null", "input=", "data.path='2024'", "to=a.b,c"])
def test_other_values_are_left_alone(word):
    assert quoted(word) == word
