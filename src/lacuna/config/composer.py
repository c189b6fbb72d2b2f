"""Many configurations at once: group choices are composed by Hydra one time each, values are set on plain copies.

A plan of thousands of cells differs in few choices and many values; Hydra takes some 130 ms for one composition. What
it gave is also kept on disk, for as long as no config file changes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lacuna import files
from lacuna.config.paths import digest
from lacuna.errors import LacunaError

_NOTHING = object()


class Composer:
    """Composes the configurations of one verb.

    Args:
        configs: the config folder.
        config_name: the verb's base config.
        cache: folder where compositions are kept; None: nowhere.
    """

    def __init__(self, configs: Path, config_name: str, cache: Path | None = None) -> None:
        self.configs, self.config_name = configs, config_name
        self._path = None if cache is None else cache / f"{config_name}-{digest(configs)}.json"
        self._composed: dict[str, dict[str, Any]] = {}
        self._new = False
        if self._path is not None:
            with suppress(LacunaError, OSError):
                found = files.read_json(self._path)
                self._composed = found if isinstance(found, dict) else {}

    def base(self, words: Sequence[str]) -> dict[str, Any]:
        """The configuration of some group choices (``experiment=...``). It is shared: do not change it.

        Raises:
            LacunaError: a choice that does not exist.
        """
        key = " ".join(words)
        if key not in self._composed:
            from lacuna.config.compose import compose

            self._composed[key] = compose(self.configs, self.config_name, list(words))
            self._new = True
        return self._composed[key]

    def save(self) -> None:
        """Keep what was composed for the next time; a folder that cannot be written is no reason to stop."""
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
        return _lookup(config, key) is not _NOTHING

    @staticmethod
    def with_values(config: Mapping[str, Any], values: Mapping[str, Any], who: str = "") -> dict[str, Any]:
        """A copy of a configuration with values set by dotted key; what is not on their way is shared.

        Raises:
            LacunaError: a key that does not exist, or a value of another kind than the one it replaces.
        """
        from lacuna.config.value_types import example, set_lighter, wanted

        result = dict(config)
        for key, value in values.items():
            old = _lookup(config, key)
            if old is _NOTHING:
                raise LacunaError(f"{who or 'overrides'}: there is no key {key!r} in this configuration.")
            kind = None if old is None or value is None else wanted(old, value)
            if kind is not None:
                raise LacunaError(f"{who or 'overrides'}: {key}={value} must be {kind}, such as {example(old)}.")
            *path, last = key.split(".")
            place = result
            for part in path:
                place[part] = dict(place[part])
                place = place[part]
            place[last] = copy.deepcopy(value)
        if any("light" in part for part in result.values() if isinstance(part, dict)):
            result = copy.deepcopy(result)
            for key in values:
                set_lighter(result, key)
        return result


def _lookup(config: Mapping[str, Any], key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _NOTHING
        found = found[part]
    return found
