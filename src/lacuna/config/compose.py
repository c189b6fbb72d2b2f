"""From overrides to one resolved config of plain values.

Only the command line uses this; the package itself never needs Hydra.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from lacuna.config.composition_errors import first_line, missing_choice, unknown_key
from lacuna.config.hydra_cache import compose_cached
from lacuna.config.overrides import checked_choices, group_choices, parse
from lacuna.config.value_types import example, required_type, set_in_light_variants
from lacuna.errors import LacunaError


def compose(configs: Path, config_name: str, overrides: list[str]) -> dict[str, Any]:
    """The resolved config as plain dicts, lists and scalars.

    Args:
        configs: the config folder.
        config_name: the verb's base config.
        overrides: group choices and values, as on the command line.

    Raises:
        LacunaError: an unknown key, group or choice, a value of the wrong type, or one that is missing.
    """
    with _hydra(configs):
        parsed = parse(overrides)
        for override in parsed:
            if override.is_sweep_override():
                raise LacunaError(
                    f"{override.input_line} names several values: add -m to run one job for each, "
                    f"or write {override.key_or_group}=[...] for one list."
                )
        parsed = checked_choices(configs, config_name, parsed)
        config = _composed(configs, config_name, parsed)
        choices = group_choices(configs, parsed)
        if len(choices) < len(parsed):
            _check_types(config, _composed(configs, config_name, choices), parsed)
    resolved = _resolved(config)
    for override in parsed:
        if override not in choices:
            set_in_light_variants(resolved, override.key_or_group)
    return resolved


def split_overrides(configs: Path, overrides: list[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Overrides as (group choices, values by dotted key).

    Raises:
        LacunaError: one that cannot be read, or that names several values.
    """
    if not overrides:
        return (), {}
    with _hydra(configs):
        parsed = parse(overrides)
        for override in parsed:
            if override.is_sweep_override():
                raise LacunaError(f"{override.input_line} names several values: give one.")
        choices = group_choices(configs, parsed)
        values = {override.key_or_group: override.value() for override in parsed if override not in choices}
    return tuple(str(override.input_line) for override in choices), values


def jobs(configs: Path, config_name: str, overrides: list[str]) -> list[list[str]]:
    """The overrides of every job of ``-m``, all checked before the first one starts.

    Raises:
        LacunaError: as :func:`compose`, of any job.
    """
    with _hydra(configs):
        batches = BasicSweeper.split_arguments(parse(overrides), max_batch_size=None)
        result: list[list[str]] = [list(job) for job in batches[0]]
    for job in result:
        compose(configs, config_name, job)
    return result


def to_yaml(config: dict[str, Any]) -> str:
    """The config as YAML text, in the order of the config files."""
    return OmegaConf.to_yaml(OmegaConf.create(config))


@contextmanager
def _hydra(configs: Path) -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs.resolve()), version_base="1.3"):
        yield


def _composed(configs: Path, config_name: str, parsed: list[Override]) -> DictConfig:
    try:
        choices = group_choices(configs, parsed)
        # Hydra's own settings have no effect but must be valid
        own = [override for override in parsed if override.key_or_group.startswith("hydra")]
        values = [override for override in parsed if override not in choices and override not in own]
        return compose_cached(configs, config_name, [*choices, *own], values)
    except YAMLError as error:
        place = " ".join(str(getattr(error, "problem_mark", "") or error).split())
        raise LacunaError(f"A config file is not valid YAML, {place}: mend it there.") from error
    except MissingConfigException as error:
        raise missing_choice(configs, error) from error
    except ConfigCompositionException as error:
        raise unknown_key(configs, config_name, parsed, error) from error
    except OmegaConfBaseException as error:
        raise LacunaError(f"The config cannot be composed: {first_line(error)}.") from error


def _check_types(config: DictConfig, base: DictConfig, parsed: list[Override]) -> None:
    """Refuse a value of another type than the one it replaces; null can be replaced by, and replaces, anything."""
    for override in parsed:
        key = override.key_or_group
        old, new = _value(base, key), _value(config, key)
        if old is None or new is None or override.is_delete():
            continue
        expected = required_type(old, new)
        if expected is not None:
            raise LacunaError(f"{override.input_line}: {key} must be {expected}, such as {example(old)}.")


def _value(config: DictConfig, key: str) -> Any:
    try:
        found = OmegaConf.select(config, key)
        return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
    except OmegaConfBaseException:
        return None


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key or "?"
        raise LacunaError(f"{key} has no value: give it one with {key}=... .") from error
    except OmegaConfBaseException as error:
        raise LacunaError(f"{error.full_key or 'The config'} cannot be resolved: {first_line(error)}.") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key != "hydra"}
