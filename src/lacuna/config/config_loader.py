"""Hydra's loader of configs, which adds the optional settings of trainings before overrides are applied."""

from __future__ import annotations

from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig

from lacuna.config.training_options import with_training_options


class ConfigLoader(ConfigLoaderImpl):
    """As Hydra's. Launchers pickle it, to compose in their jobs."""

    def _compose_config_from_defaults_list(self, defaults: Any, repo: Any) -> DictConfig:
        return with_training_options(super()._compose_config_from_defaults_list(defaults, repo))
