"""Whether a new value is of the kind of the one it replaces, on plain values."""

from __future__ import annotations

from typing import Any


def wanted(old: Any, new: Any) -> str | None:
    """What a value must be to replace ``old``, or None where ``new`` is that."""
    if isinstance(old, bool):
        return None if isinstance(new, bool) else "true or false"
    if isinstance(old, int):
        return None if isinstance(new, int) and not isinstance(new, bool) else "a whole number"
    if isinstance(old, float):
        return None if isinstance(new, (int, float)) and not isinstance(new, bool) else "a number"
    if isinstance(old, list):
        return None if isinstance(new, list) else "a list"
    if isinstance(old, dict):
        return None if isinstance(new, dict) else "set key by key"
    return None if not isinstance(new, (dict, list)) else "one word or text"


def example(old: Any) -> str:
    """A value of the kind of ``old``, as one would write it."""
    if isinstance(old, dict):
        return " ".join(f"...{key}=..." for key in list(old)[:1]) or "key=value"
    if isinstance(old, list):
        return "[" + ",".join(str(item) for item in old) + "]"
    return str(old).lower() if isinstance(old, bool) else str(old)


def set_lighter(config: dict[str, Any], key: str) -> None:
    """What a user says of a part (a dotted key) holds in its ``light`` variant as well; changes ``config`` in place."""
    parts = key.split(".")
    value = _at(config, parts)
    for place in range(1, len(parts)):
        variant = _at(config, [*parts[:place], "light", *parts[place:-1]])
        if isinstance(variant, dict) and parts[-1] in variant:
            variant[parts[-1]] = value


def _at(config: Any, parts: list[str]) -> Any:
    for part in parts:
        config = config.get(part) if isinstance(config, dict) else None
    return config
