"""``key=value`` arguments on a script's command line, such as ``output=outputs budgets=[paper,full]``; no Hydra."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lacuna.errors import LacunaError


def read_key_values(arguments: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults, with the values of ``key=value`` arguments in their place; each value is read as YAML.

    Raises:
        LacunaError: no ``=``, an unknown key, a key given twice, or a value that cannot be read.
    """
    found: dict[str, Any] = {}
    for argument in arguments:
        key, sign, text = argument.partition("=")
        if not sign:
            raise LacunaError(f"{argument!r} is no key=value; the keys are {', '.join(defaults)}.")
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, 1)
            hint = f"did you mean {near[0]}=...?" if near else f"the keys are {', '.join(defaults)}."
            raise LacunaError(f"{key}: unknown key; {hint}")
        if key in found:
            raise LacunaError(f"{key} is given twice: leave out one.")
        try:
            found[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise LacunaError(f"{argument} cannot be read: write {key}=value or {key}=[one,two].") from error
    return {**defaults, **found}
