"""Words such as ``output=outputs budgets=[paper,full]`` on a script's command line, without Hydra."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lacuna.errors import LacunaError


def read_words(words: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``key=value`` words, each value read as YAML, over the defaults.

    Raises:
        LacunaError: no ``=``, an unknown key, a key given twice, or a value that cannot be read.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign:
            raise LacunaError(f"{word!r} is no key=value; the keys are {', '.join(defaults)}.")
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, 1)
            hint = f"did you mean {near[0]}=...?" if near else f"the keys are {', '.join(defaults)}."
            raise LacunaError(f"{key}: unknown key; {hint}")
        if key in found:
            raise LacunaError(f"{key} is given twice: leave out one.")
        try:
            found[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise LacunaError(f"{word} cannot be read: write {key}=value or {key}=[one,two].") from error
    return {**defaults, **found}
