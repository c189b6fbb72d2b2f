"""From overrides to a resolved plain dict, and from Hydra's errors to one clear sentence.

Only the command line uses this; the package itself never needs Hydra.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from lacuna.config import choices as choosing
from lacuna.config import value_types as kinds
from lacuna.config.help import groups, keys_of, options, verb_groups
from lacuna.errors import LacunaError

# More choices than this are not listed in an error where a near one was found.
MANY = 12


def compose(configs: Path, config_name: str, overrides: list[str]) -> dict[str, Any]:
    """The resolved config as plain dicts, lists and scalars.

    Raises:
        LacunaError: an unknown key, group or choice, a value of the wrong kind, or one that is missing.
    """
    with _hydra(configs):
        parsed = _parse(overrides)
        for override in parsed:
            if override.is_sweep_override():
                raise LacunaError(
                    f"{override.input_line} names several values: add -m to run one job for each, "
                    f"or write {override.key_or_group}=[...] for one list."
                )
        parsed = _checked_choices(configs, config_name, parsed)
        config = _composed(configs, config_name, parsed)
        choices = _choices(configs, parsed)
        if len(choices) < len(parsed):
            _check_kinds(config, _composed(configs, config_name, choices), parsed)
    resolved = _resolved(config)
    for override in parsed:
        if override not in choices:
            kinds.set_lighter(resolved, override.key_or_group)
    return resolved


def split_overrides(configs: Path, overrides: list[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Overrides as group choices and as values by dotted key.

    Raises:
        LacunaError: one that cannot be read, or that names several values.
    """
    if not overrides:
        return (), {}
    with _hydra(configs):
        parsed = _parse(overrides)
        for override in parsed:
            if override.is_sweep_override():
                raise LacunaError(f"{override.input_line} names several values: give one.")
        choices = _choices(configs, parsed)
        values = {override.key_or_group: override.value() for override in parsed if override not in choices}
    return tuple(str(override.input_line) for override in choices), values


def jobs(configs: Path, config_name: str, overrides: list[str]) -> list[list[str]]:
    """The overrides of every job of a sweep, all checked before the first one starts."""
    with _hydra(configs):
        batches = BasicSweeper.split_arguments(_parse(overrides), max_batch_size=None)
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


def _parse(overrides: list[str]) -> list[Override]:
    gh = GlobalHydra.instance()
    parser = OverridesParser.create(config_loader=gh.config_loader())
    parsed: list[Override] = []
    for text in overrides:
        if text.startswith("+"):
            raise LacunaError(f"{text}: every key that can be set exists already, so write it without '+'.")
        if text.startswith("~"):
            raise LacunaError(f"{text}: no key can be left out; set it to another value, or to null.")
        if "=" not in text:
            raise LacunaError(f"{text!r} is not of the form key=value; --help lists what can be chosen.")
        try:
            parsed += parser.parse_overrides([text])
        except (OverrideParseException, HydraException) as error:
            raise LacunaError(
                f"The value of {text!r} cannot be read: put quotes around special characters, as in 'key=\"a b\"'."
            ) from error
    return parsed


def _choices(configs: Path, parsed: list[Override]) -> list[Override]:
    """Those overrides that choose a member of a group; the others set values."""
    return [override for override in parsed if _is_choice(configs, override)]


def _is_choice(configs: Path, override: Override) -> bool:
    group = override.key_or_group
    return override.package is not None or (
        not group.startswith("hydra") and "." not in group and (configs / group).is_dir()
    )


def _checked_choices(configs: Path, config_name: str, parsed: list[Override]) -> list[Override]:
    """The overrides without those that choose nothing where nothing is the default, which Hydra does not understand.

    Raises:
        LacunaError: a group that the verb does not take, or nothing where something must be chosen.
    """
    taken, kept = verb_groups(config_name, configs), list(parsed)
    for override in _choices(configs, parsed):
        group = override.key_or_group
        if override.package is not None:
            continue
        if group not in taken:
            known = ", ".join(f"{name}=" for name in taken) or "none"
            raise LacunaError(f"{override.input_line}: {config_name}.py takes no {group}; its groups are {known}.")
        value = override.value()
        if value is None and taken[group] is None:
            kept.remove(override)
        elif value is None:
            raise LacunaError(f"{group}=null: choose one of {', '.join(options(configs, group))}.")
        elif not isinstance(value, str):
            raise LacunaError(f"{override.input_line}: {group} takes one name, such as {options(configs, group)[0]}.")
    return kept


def _composed(configs: Path, config_name: str, parsed: list[Override]) -> DictConfig:
    try:
        choices = _choices(configs, parsed)
        # Hydra's own settings have no effect and must only be legal
        own = [override for override in parsed if override.key_or_group.startswith("hydra")]
        values = [override for override in parsed if override not in choices and override not in own]
        return choosing.composed(configs, config_name, [*choices, *own], values)
    except YAMLError as error:
        place = " ".join(str(getattr(error, "problem_mark", "") or error).split())
        raise LacunaError(f"A config file is not valid YAML, {place}: mend it there.") from error
    except MissingConfigException as error:
        raise _missing_choice(configs, error) from error
    except ConfigCompositionException as error:
        raise _unknown_key(configs, config_name, parsed, error) from error
    except OmegaConfBaseException as error:
        raise LacunaError(f"The config cannot be composed: {_first_line(error)}.") from error


def _missing_choice(configs: Path, error: MissingConfigException) -> LacunaError:
    missing = error.missing_cfg_file
    if not isinstance(missing, str) or "/" not in missing:
        return LacunaError(f"The config cannot be composed: {_first_line(error)}.")
    group, name = missing.lstrip("/").split("/", 1)
    known = options(configs, group) if (configs / group).is_dir() else []
    if not known:
        return LacunaError(f"There is no config group {group!r}; the groups are {', '.join(groups(configs))}.")
    hint = _hint(name, known)
    if len(known) > MANY and hint != ".":
        return LacunaError(f"There is no {group} {name!r}{hint} --help lists all {len(known)}.")
    return LacunaError(f"There is no {group} {name!r}{hint} The choices are: {', '.join(known)}.")


def _unknown_key(
    configs: Path, config_name: str, parsed: list[Override], error: ConfigCompositionException
) -> LacunaError:
    match = re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", str(error))
    if match is None:
        match = re.search(r"Could not (?:override|delete)[^.]*?([\w./@]+)\.?(?: |$)", str(error))
    if match is None:
        return LacunaError(f"The config cannot be composed: {_first_line(error)}.")
    key = match.group(1).split("=")[0]
    culprit = next((item for item in parsed if item.key_or_group == key), None)
    if culprit is None:
        # Not from the command line: a config file overrides something that does not exist.
        return LacunaError(f"The config cannot be composed: {_first_line(error)}.")
    base = choosing.composed(configs, config_name, [i for i in _choices(configs, parsed) if i != culprit], [])
    names = list(_keys(base)) + list(verb_groups(config_name, configs))
    if key in _keys(base):
        return LacunaError(f"{culprit.input_line}: {_first_line(error)}.")
    if "." in key and key.split(".")[0] not in _keys(base):
        group, _, name = key.partition(".")
        if group in verb_groups(config_name, configs):
            return _not_chosen(configs, group, name, culprit)
    parent = key.rpartition(".")[0]
    siblings = [name.rpartition(".")[2] for name in _keys(base) if parent and name.rpartition(".")[0] == parent]
    if siblings:
        return LacunaError(f"Unknown key {key!r}: the keys of {parent} are {', '.join(siblings)}.")
    return LacunaError(f"Unknown key {key!r}{_hint(key, names)} --cfg lists every key with its value.")


def _not_chosen(configs: Path, group: str, name: str, culprit: Override) -> LacunaError:
    """A key of a group of which nothing is chosen."""
    holders = [option for option in options(configs, group) if name.split(".")[0] in keys_of(configs, group, option)]
    if not holders:
        known = ", ".join(options(configs, group))
        return LacunaError(f"Unknown key {group}.{name}: no {group} has it; the choices are {known}.")
    # the one with the fewest keys is the simplest
    example = min(holders, key=lambda option: len(keys_of(configs, group, option)))
    return LacunaError(
        f"{culprit.input_line}: choose a {group} first, for instance {group}={example} {culprit.input_line}."
    )


def _hint(name: str, known: list[str]) -> str:
    """``"; did you mean 'a' or 'b'?"``, or ``"."`` where nothing is near."""
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if not near:
        # The right last part in the wrong place: lr -> density.lr, task.lr.
        near = [item for item in known if item.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]][:3]
    return f"; did you mean {' or '.join(repr(item) for item in near)}?" if near else "."


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        path = f"{prefix}{key}"
        yield path
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            yield from _keys(node, f"{path}.")


def _check_kinds(config: DictConfig, base: DictConfig, parsed: list[Override]) -> None:
    """Refuse a value of another kind than the one it replaces (``null`` on either side allows anything)."""
    for override in parsed:
        key = override.key_or_group
        old, new = _value(base, key), _value(config, key)
        if old is None or new is None or override.is_delete():
            continue
        kind = kinds.wanted(old, new)
        if kind is not None:
            raise LacunaError(f"{override.input_line}: {key} must be {kind}, such as {kinds.example(old)}.")


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
        raise LacunaError(f"{error.full_key or 'The config'} cannot be resolved: {_first_line(error)}.") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key != "hydra"}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
