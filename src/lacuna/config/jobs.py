"""The jobs of ``-m``: every combination of the values that its overrides list."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from lacuna.config.compose import compose_with_hydra, hydra_for
from lacuna.config.folders import Configs
from lacuna.config.overrides import Overrides, of_hydra, parse
from lacuna.errors import LacunaError


@dataclass(frozen=True)
class Jobs:
    """The jobs of one command.

    Args:
        overrides: of each job, without those that change settings of Hydra.
        configs: the resolved config of each job.
        hydra: Hydra's own settings, which all jobs share.
        shared: the overrides that change those settings.
    """

    overrides: list[list[str]]
    configs: list[dict[str, Any]]
    hydra: DictConfig
    shared: list[str]


def jobs(configs: Configs, config_name: str, words: list[str]) -> Jobs:
    """The jobs of ``-m``, all checked before the first one starts.

    Args:
        configs: the config folders.
        config_name: the verb's base config.
        words: overrides, which may list several values, as in ``seed=0,1,2``.

    Raises:
        LacunaError: as :func:`lacuna.config.compose.compose`, of any job; or values that cannot be listed.
    """
    with hydra_for(configs, config_name):
        parsed = parse(words)
        shared = [str(override.input_line) for override in parsed if of_hydra(override)]
        for override in parsed:
            if of_hydra(override) and override.is_sweep_override():
                raise LacunaError(f"{override.input_line}: all jobs share the settings of Hydra: give one value.")
    # values may belong to a choice that is listed: only what is chosen once says what Hydra's settings are
    fixed = [item for item in Overrides.of(configs, parsed).composed if not item.is_sweep_override()]
    _, hydra = compose_with_hydra(configs, config_name, [str(item.input_line) for item in fixed])
    given = [str(item.input_line) for item in parsed if not of_hydra(item)]
    overrides = _combinations(configs, config_name, [*_in_config(hydra), *given])
    composed = [compose_with_hydra(configs, config_name, [*job, *shared])[0] for job in overrides]
    return Jobs(overrides, composed, copy.deepcopy(hydra), shared)


def _in_config(hydra: DictConfig) -> list[str]:
    """The values that a config file lists, in ``hydra.sweeper.params``."""
    params = OmegaConf.select(hydra, "sweeper.params") or {}
    return [f"{key}={value}" for key, value in params.items()]


def _combinations(configs: Configs, config_name: str, words: list[str]) -> list[list[str]]:
    with hydra_for(configs, config_name):
        parsed = parse(words)
        for override in parsed:
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise LacunaError(
                    f"{override.input_line}: -m runs values that are listed, as in"
                    f" {override.key_or_group}=choice(a,b) or range(0,3); sweep.py searches intervals."
                )
        return [list(job) for job in BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]]


def job_settings(found: Jobs, number: int) -> DictConfig:
    """A config with one key ``hydra``: Hydra's settings as they are inside a job, where its number and overrides count.

    Args:
        found: the jobs.
        number: of the job, from 0.
    """
    settings: DictConfig = OmegaConf.create({**found.configs[number], "hydra": copy.deepcopy(found.hydra)})
    with open_dict(settings.hydra):
        job = settings.hydra.job
        job.num, job.id = number, number
        parsed = OverridesParser.create().parse_overrides(found.overrides[number])
        named = job.config.override_dirname
        job.override_dirname = get_overrides_dirname(parsed, list(named.exclude_keys), named.item_sep, named.kv_sep)
    return settings
