"""What Hydra composes from the choices of a command line, kept for as long as no config file changes.

Hydra takes some 130 ms for it, most of which goes into reading the same files again. One process asks for few choices
and many values (a run and what it needs, the cells of a table, the trials of a search), so values are set on copies.
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

# A composition takes about a megabyte.
KEPT = 64


def composed(configs: Path, config_name: str, choices: Sequence[Override], values: Sequence[Override]) -> DictConfig:
    """The config of a verb, as Hydra's own ``compose`` gives it; Hydra must be initialized with the folder.

    Args:
        configs: the config folder.
        config_name: the verb's base config.
        choices: overrides that choose a member of a group.
        values: overrides that set values, in their order.

    Returns:
        A config that others may hold as well: do not change it.

    Raises:
        HydraException, OmegaConfBaseException, YAMLError: as Hydra does.
    """
    lines = tuple(str(override.input_line) for override in choices)
    chosen = _chosen(digest(configs), config_name, lines)
    if not values:
        return chosen
    config = copy.deepcopy(chosen)
    ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
    return config


@lru_cache(KEPT)
def _chosen(files: str, config_name: str, lines: tuple[str, ...]) -> DictConfig:
    """``files``: the digest of the config folder, which is where Hydra looks."""
    return compose(config_name, list(lines))
