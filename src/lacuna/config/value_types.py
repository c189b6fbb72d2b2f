"""Values that replace others in a config: of which type they must be, and where they are set."""

from __future__ import annotations

from typing import Any


def required_type(old: Any, new: Any) -> str | None:
    """What a value must be to replace ``old``, as words for a message; None where ``new`` is of that type."""
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
    """A value of the type of ``old``, as one would write it."""
    if isinstance(old, dict):
        return " ".join(f"...{key}=..." for key in list(old)[:1]) or "key=value"
    if isinstance(old, list):
        return "[" + ",".join(str(item) for item in old) + "]"
    return str(old).lower() if isinstance(old, bool) else str(old)


def set_in_light_variants(config: dict[str, Any], key: str) -> None:
    """Set a value that a user gave for a dotted key also where a ``light`` variant of the component has that key.

    Args:
        config: changed in place.
        key: of the value, which is in the config already.
    """
    path = key.split(".")
    value = _lookup(config, path)
    for depth in range(1, len(path)):
        variant = _lookup(config, [*path[:depth], "light", *path[depth:-1]])
        if isinstance(variant, dict) and path[-1] in variant:
            variant[path[-1]] = value


def _lookup(config: Any, path: list[str]) -> Any:
    for key in path:
        config = config.get(key) if isinstance(config, dict) else None
    return config
