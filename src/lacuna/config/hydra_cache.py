"""Hydra's compositions, kept for as long as no config file changes.

Hydra takes some 130 ms for each, mostly to read the same files again. One process asks for few group choices and many
values (a run and its prerequisites, the cells of a table, the trials of a search), so values are set on copies.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from lacuna.config.paths import digest

MOST_KEPT = 64
"""Compositions in memory; each takes about a megabyte."""


def compose_cached(
    configs: Path, config_name: str, choices: Sequence[Override], values: Sequence[Override]
) -> DictConfig:
    """The config of a verb, equal to that of Hydra's own ``compose``; Hydra must be initialized with the folder.

    Args:
        configs: the config folder.
        config_name: the verb's base config.
        choices: overrides that choose a member of a group.
        values: overrides that set values, in their order.

    Returns:
        A config that is shared: do not change it.

    Raises:
        HydraException, OmegaConfBaseException, YAMLError: from Hydra.
    """
    lines = tuple(str(override.input_line) for override in choices)
    chosen = _compose(digest(configs), config_name, lines)
    if not values:
        return chosen
    config = copy.deepcopy(chosen)
    ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
    return config


@lru_cache(MOST_KEPT)
def _compose(files: str, config_name: str, lines: tuple[str, ...]) -> DictConfig:
    """Compose with Hydra.

    Args:
        files: digest of the config folder, so that a change of it is noticed.
        config_name: the verb's base config.
        lines: overrides that choose a member of a group.
    """
    return compose(config_name, list(lines))
