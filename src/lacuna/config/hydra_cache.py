"""Hydra's compositions, kept for as long as no config file changes.

Hydra takes some 130 ms for each, mostly to read the same files again. One process asks for few group choices and many
values (a run and its prerequisites, the cells of a table, the trials of a search), so values are set on copies.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from lacuna.config.folders import Configs

MOST_KEPT = 64
"""Compositions in memory; each takes about a megabyte."""


@dataclass(frozen=True)
class Composition:
    """What Hydra composed.

    Args:
        config: the config of a verb.
        hydra: a config with one key ``hydra``, Hydra's own settings.
    """

    config: DictConfig
    hydra: DictConfig


def compose_cached(
    configs: Configs, config_name: str, choices: Sequence[Override], values: Sequence[Override]
) -> Composition:
    """The composition of a verb, equal to that of Hydra's own ``compose``; Hydra must be ready.

    Args:
        configs: the config folders.
        config_name: the verb's base config.
        choices: overrides that choose a member of a group, or change settings of Hydra.
        values: overrides that set values, in their order.

    Returns:
        A composition that is shared: do not change it.

    Raises:
        HydraException, OmegaConfBaseException, YAMLError: from Hydra.
    """
    lines = tuple(str(override.input_line) for override in choices)
    chosen = _compose(configs.digest, config_name, lines)
    if not values:
        return chosen
    config = copy.deepcopy(chosen.config)
    ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
    return Composition(config, chosen.hydra)


@lru_cache(MOST_KEPT)
def _compose(files: str, config_name: str, lines: tuple[str, ...]) -> Composition:
    """Compose with Hydra.

    Args:
        files: digest of the config folders, so that a change of a file is noticed.
        config_name: the verb's base config.
        lines: overrides that choose a member of a group, or change settings of Hydra.
    """
    config = compose(config_name, list(lines), return_hydra_config=True)
    hydra = OmegaConf.masked_copy(config, ["hydra"])
    with open_dict(config):
        del config["hydra"]
    return Composition(config, hydra)
