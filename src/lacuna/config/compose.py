"""From overrides to one resolved config of plain values.

Only the command line uses this; the package itself never needs Hydra.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from lacuna.config.composition_errors import first_line, missing_choice, unknown_key
from lacuna.config.config_loader import ConfigLoader
from lacuna.config.folders import Configs
from lacuna.config.hydra_cache import Composition, compose_cached
from lacuna.config.overrides import Overrides, check_additions, checked_choices, of_hydra, parse
from lacuna.config.value_types import example, required_type, set_in_light_variants
from lacuna.errors import LacunaError


def compose(configs: Configs, config_name: str, overrides: list[str]) -> dict[str, Any]:
    """The resolved config as plain dicts, lists and scalars.

    Args:
        configs: the config folders.
        config_name: the verb's base config.
        overrides: group choices and values, as on the command line.

    Raises:
        LacunaError: an unknown key, group or choice, a value of the wrong type, or one that is missing.
    """
    return compose_with_hydra(configs, config_name, overrides)[0]


def compose_with_hydra(configs: Configs, config_name: str, overrides: list[str]) -> tuple[dict[str, Any], DictConfig]:
    """As :func:`compose`, and Hydra's own settings.

    Returns:
        The config, and the node ``hydra`` of Hydra's config.
    """
    with hydra_for(configs, config_name):
        parsed = parse(overrides)
        for override in parsed:
            if override.is_sweep_override():
                raise LacunaError(
                    f"{override.input_line} names several values: add -m to run one job for each, "
                    f"or write {override.key_or_group}=[...] for one list."
                )
        kept = Overrides.of(configs, checked_choices(configs, config_name, parsed))
        base = _composed(configs, config_name, Overrides(kept.choices, kept.hydra, []))
        check_additions(base.config, kept.values)
        composition = _composed(configs, config_name, kept)
        _check_types(composition.config, base.config, kept.values)
    resolved = _resolved(composition)
    for override in kept.values:
        set_in_light_variants(resolved, override.key_or_group)
    return resolved, composition.hydra.hydra


def split_overrides(configs: Configs, overrides: list[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Overrides as (group choices, values by dotted key).

    Raises:
        LacunaError: one that cannot be read, or that names several values.
    """
    if not overrides:
        return (), {}
    with hydra_for(configs):
        parsed = parse(overrides)
        for override in parsed:
            if override.is_sweep_override():
                raise LacunaError(f"{override.input_line} names several values: give one.")
            if of_hydra(override):
                raise LacunaError(f"{override.input_line} is a setting of Hydra for the command: set it before '--'.")
        kept = Overrides.of(configs, parsed)
    return tuple(str(item.input_line) for item in kept.choices), {i.key_or_group: i.value() for i in kept.values}


def to_yaml(config: dict[str, Any]) -> str:
    """The config as YAML text, in the order of the config files."""
    return OmegaConf.to_yaml(OmegaConf.create(config))


@contextmanager
def hydra_for(configs: Configs, config_name: str = "app") -> Iterator[Hydra]:
    """Hydra, ready to compose from the folders; what was initialized before is so again afterwards."""
    around = GlobalHydra.instance()
    before = around.hydra
    try:
        yield _application(configs, config_name)
    finally:
        around.hydra = before


def _application(configs: Configs, task_name: str) -> Hydra:
    """Hydra's application object, with the config folders as its search path; it becomes the global one.

    Args:
        configs: the config folders.
        task_name: Hydra's name for the job.
    """
    version.setbase("1.3")
    path = create_config_search_path(str(configs.main))
    for folder in configs.added:  # as Hydra does for --config-dir
        path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2(task_name, path)
    hydra.config_loader = ConfigLoader(path)
    return hydra


def _composed(configs: Configs, config_name: str, overrides: Overrides) -> Composition:
    try:
        return compose_cached(configs, config_name, overrides.composed, overrides.values)
    except YAMLError as error:
        place = " ".join(str(getattr(error, "problem_mark", "") or error).split())
        raise LacunaError(f"A config file is not valid YAML, {place}: mend it there.") from error
    except MissingConfigException as error:
        raise missing_choice(configs, error) from error
    except ConfigCompositionException as error:
        raise unknown_key(configs, config_name, overrides, error) from error
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


def _resolved(composition: Composition) -> dict[str, Any]:
    try:
        with _hydra_resolver(composition.hydra):
            plain = OmegaConf.to_container(composition.config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key or "?"
        raise LacunaError(f"{key} has no value: give it one with {key}=... .") from error
    except OmegaConfBaseException as error:
        raise LacunaError(f"{error.full_key or 'The config'} cannot be resolved: {first_line(error)}.") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@contextmanager
def _hydra_resolver(hydra: DictConfig) -> Iterator[None]:
    """Values such as ``${hydra:job.num}``: of the job, inside one; otherwise those that a first job would have."""
    holder = HydraConfig.instance()
    if holder.cfg is not None:
        yield
        return
    hydra = copy.copy(hydra)
    with open_dict(hydra.hydra):
        for name in ("id", "num"):
            if OmegaConf.is_missing(hydra.hydra.job, name):
                hydra.hydra.job[name] = 0
        hydra.hydra.runtime.output_dir = str(Path(hydra.hydra.run.dir).absolute())
    holder.set_config(hydra)
    try:
        yield
    finally:
        holder.cfg = None
