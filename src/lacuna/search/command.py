"""A trial as a command line of ``train.py``, to be typed or pasted."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from lacuna import program
from lacuna.search.problem import Problem

SWEEP_KEYS = ("search", "executor", "trials", "seeds")
"""Keys of ``sweep.py`` that ``train.py`` does not have."""

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_YAML_WORDS = ("null", "true", "false", "nan", "inf", "yes", "no", "on", "off")


def train_words(problem: Problem, raw: dict[str, Any], words: Iterable[str]) -> list[str]:
    """The overrides of ``train.py`` for a trial.

    Args:
        problem: the search.
        raw: the trial's values, as Optuna has them.
        words: the overrides of ``sweep.py``.
    """
    values = problem.values(raw)
    if problem.config["budget"].get("validation") is not None:  # train.py would choose other validation images
        values = {"data.validation": problem.config["data"]["validation"], **values}
    kept = [
        word
        for word in words
        if word.split("=")[0].split(".")[0] not in SWEEP_KEYS and word.split("=")[0] not in values
    ]
    return kept + [f"{key}={override_value(value)}" for key, value in values.items()]


def train_command(words: Sequence[str]) -> str:
    """The command line, quoted for a shell."""
    return shlex.join([*program.words("train"), *words])


def override_value(value: Any) -> str:
    """A value in the syntax of Hydra's overrides."""
    if isinstance(value, list):
        return "[" + ",".join(override_value(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if _BARE.fullmatch(text) and text.lower() not in _YAML_WORDS:
        return text
    # a backslash is an ordinary character except before a quote
    return "'" + re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), text) + "'"
