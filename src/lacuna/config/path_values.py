"""Names of files, folders and runs that look like numbers: ``data.path=2024``, ``input=2024_01``, ``run=8731e2``."""

from __future__ import annotations

import re

KEYS = (
    *("data.path", "data.root", "data.labels_csv", "data.mask_suffix"),
    *("input", "to", "run", "output", "results", "mask_suffix"),
)
"""Keys whose values are names. The grammar of overrides would read 2024_01 as 202401 and 1e3 as 1000.0."""
_OTHER_TYPE = re.compile(r"[+-]?(\d[\d_]*)?\.?(\d[\d_]*)?(e[+-]?\d[\d_]*)?|[+-]?(inf|nan)|true|false", re.IGNORECASE)


def quoted(text: str) -> str:
    """An override, its value (or each of several) in quotes if it is a name that would be read as another type."""
    key, equals, value = text.partition("=")
    if key.lstrip("+") not in KEYS:
        return text
    parts = [f"'{part}'" if part and _OTHER_TYPE.fullmatch(part) else part for part in value.split(",")]
    return f"{key}{equals}{','.join(parts)}"
