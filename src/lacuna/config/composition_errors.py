"""Hydra's errors as one sentence that names the mistake and what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig

from lacuna.config.folders import Configs
from lacuna.config.help import groups, keys_of, verb_groups
from lacuna.config.hydra_cache import compose_cached
from lacuna.config.overrides import Overrides
from lacuna.errors import LacunaError
from lacuna.extras import DISTRIBUTION

PLUGINS = {
    "hydra/launcher": f"pip install '{DISTRIBUTION}[launchers]' brings joblib, submitit_local, submitit_slurm and ray",
    "hydra/sweeper": "sweep.py searches hyper-parameters without one",
}
"""Groups of Hydra's plugins -> where to find more."""
MOST_LISTED = 12
"""Where a similar name was found, no more choices than these are listed."""


def missing_choice(configs: Configs, error: MissingConfigException) -> LacunaError:
    """A group, or a member of one, that does not exist."""
    missing = error.missing_cfg_file
    if not isinstance(missing, str) or "/" not in missing:
        return LacunaError(f"The config cannot be composed: {first_line(error)}.")
    group, name = missing.lstrip("/").rsplit("/", 1) if missing.startswith("hydra/") else _parts(missing)
    if group in PLUGINS:
        known = sorted(error.options or [])
        return LacunaError(
            f"There is no {group} {name!r}: the choices here are {', '.join(known)}; others are plugins of Hydra: "
            f"{PLUGINS[group]}."
        )
    known = configs.options(group) if configs.is_group(group) else []
    if not known:
        return LacunaError(f"There is no config group {group!r}; the groups are {', '.join(groups(configs))}.")
    hint = _hint(name, known)
    if len(known) > MOST_LISTED and hint != ".":
        return LacunaError(f"There is no {group} {name!r}{hint} --help lists all {len(known)}.")
    return LacunaError(f"There is no {group} {name!r}{hint} The choices are: {', '.join(known)}.")


def _parts(missing: str) -> tuple[str, str]:
    group, _, name = missing.lstrip("/").partition("/")
    return group, name


def unknown_key(
    configs: Configs, config_name: str, overrides: Overrides, error: ConfigCompositionException
) -> LacunaError:
    """A key that does not exist, or another mistake in a config file."""
    match = re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", str(error))
    if match is None:
        match = re.search(r"Could not (?:override|delete)[^.]*?([\w./@]+)\.?(?: |$)", str(error))
    if match is None:
        return LacunaError(f"The config cannot be composed: {first_line(error)}.")
    key = match.group(1).split("=")[0]
    culprit = next((i for i in [*overrides.values, *overrides.composed] if i.key_or_group == key), None)
    if culprit is None:
        # Not from the command line: a config file overrides something that does not exist.
        return LacunaError(f"The config cannot be composed: {first_line(error)}.")
    if culprit in overrides.hydra:
        return LacunaError(f"{culprit.input_line}: Hydra has no setting {key}; --cfg hydra lists its settings.")
    base = compose_cached(configs, config_name, [i for i in overrides.composed if i != culprit], []).config
    names = list(_keys(base)) + list(verb_groups(config_name, configs))
    if key in _keys(base):
        return LacunaError(f"{culprit.input_line}: {first_line(error)}.")
    if "." in key and key.split(".")[0] not in _keys(base):
        group, _, name = key.partition(".")
        if group in verb_groups(config_name, configs):
            return _not_chosen(configs, group, name, culprit)
    parent = key.rpartition(".")[0]
    siblings = [name.rpartition(".")[2] for name in _keys(base) if parent and name.rpartition(".")[0] == parent]
    if siblings:
        known = f"Unknown key {key!r}: the keys of {parent} are {', '.join(siblings)}"
        adding = f"; +{culprit.input_line} adds an argument" if f"{parent}.type" in names else ""
        return LacunaError(f"{known}{adding}.")
    return LacunaError(f"Unknown key {key!r}{_hint(key, names)} --cfg lists every key with its value.")


def _not_chosen(configs: Configs, group: str, name: str, culprit: Override) -> LacunaError:
    """A key of a group that is null."""
    holders = [option for option in configs.options(group) if name.split(".")[0] in keys_of(configs, group, option)]
    if not holders:
        known = ", ".join(configs.options(group))
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
        # the same last name in another place: lr -> density.lr, task.lr
        near = [item for item in known if item.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]][:3]
    return f"; did you mean {' or '.join(repr(item) for item in near)}?" if near else "."


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        path = f"{prefix}{key}"
        yield path
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            yield from _keys(node, f"{path}.")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without the full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
