"""Many configs at once: group choices are composed by Hydra once each, values are set on plain copies.

A plan of thousands of cells differs in few choices and many values, and one composition takes some 130 ms. Compositions
are also kept on disk, for as long as no config file changes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.config.folders import Configs
from lacuna.errors import LacunaError

_MISSING = object()
"""Stands for a key that does not exist."""


class Composer:
    """Composes the configs of one verb.

    Args:
        configs: the config folders.
        config_name: the verb's base config.
        cache: folder where compositions are kept on disk; None: only in memory.
    """

    def __init__(self, configs: Configs, config_name: str, cache: Path | None = None) -> None:
        self.configs, self.config_name = configs, config_name
        self._path = None if cache is None else cache / f"{config_name}-{configs.digest}.json"
        self._composed: dict[str, dict[str, Any]] = {}
        self._new = False
        if self._path is not None:
            with suppress(LacunaError, OSError):
                found = files.read_json(self._path)
                self._composed = found if isinstance(found, dict) else {}

    def base(self, choices: Sequence[str]) -> dict[str, Any]:
        """The config of some group choices (``experiment=...``). It is shared: do not change it.

        Raises:
            LacunaError: a choice that does not exist.
        """
        key = " ".join(choices)
        if key not in self._composed:
            from lacuna.config.compose import compose

            self._composed[key] = compose(self.configs, self.config_name, list(choices))
            self._new = True
        return self._composed[key]

    def save(self) -> None:
        """Write what was composed to disk, if the folder can be written."""
        if self._path is None or not self._new:
            return
        with suppress(LacunaError, OSError):
            for old in self._path.parent.glob(f"{self.config_name}-*.json"):
                old.unlink(missing_ok=True)
            files.write_text(self._path, json.dumps(self._composed))
            self._new = False

    @staticmethod
    def has(config: Mapping[str, Any], key: str) -> bool:
        """Whether a dotted key exists."""
        return _lookup(config, key) is not _MISSING

    @staticmethod
    def with_values(config: Mapping[str, Any], values: Mapping[str, Any], source: str = "overrides") -> dict[str, Any]:
        """A copy of a config with values set by dotted key. What is not changed is shared with the original.

        Args:
            config: from :meth:`base`.
            values: dotted key -> value.
            source: of the values, for messages.

        Raises:
            LacunaError: a key that does not exist, or a value of another type than the one it replaces.
        """
        from lacuna.config.value_types import example, required_type, set_in_light_variants

        result = dict(config)
        for key, value in values.items():
            old = _lookup(config, key)
            if old is _MISSING:
                raise LacunaError(f"{source}: there is no key {key!r} in this configuration.")
            expected = None if old is None or value is None else required_type(old, value)
            if expected is not None:
                raise LacunaError(f"{source}: {key}={value} must be {expected}, such as {example(old)}.")
            *path, last = key.split(".")
            mapping = result
            for name in path:
                mapping[name] = dict(mapping[name])
                mapping = mapping[name]
            mapping[last] = copy.deepcopy(value)
        if any("light" in component for component in result.values() if isinstance(component, dict)):
            result = copy.deepcopy(result)
            for key in values:
                set_in_light_variants(result, key)
        return result


def _lookup(config: Mapping[str, Any], key: str) -> Any:
    found: Any = config
    for name in key.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return _MISSING
        found = found[name]
    return found
