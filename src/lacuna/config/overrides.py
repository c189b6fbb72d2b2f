"""Overrides of a command line, such as ``stem=misconv net.training.lr=1e-3``: group choices and values."""

from __future__ import annotations

from dataclasses import dataclass

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from lacuna.config.folders import Configs
from lacuna.config.help import verb_groups
from lacuna.config.lightning_words import refuse_lightning_words
from lacuna.config.path_values import quoted
from lacuna.errors import LacunaError


@dataclass(frozen=True)
class Overrides:
    """Parsed overrides, by what they do.

    Args:
        choices: choose a member of a config group.
        hydra: change settings of Hydra itself (``hydra.run.dir=...``, ``hydra/launcher=...``).
        values: set values.
    """

    choices: list[Override]
    hydra: list[Override]
    values: list[Override]

    @classmethod
    def of(cls, configs: Configs, parsed: list[Override]) -> Overrides:
        """Sort parsed overrides."""
        hydra = [override for override in parsed if of_hydra(override)]
        choices = [override for override in parsed if override not in hydra and _is_choice(configs, override)]
        return cls(choices, hydra, [item for item in parsed if item not in hydra and item not in choices])

    @property
    def composed(self) -> list[Override]:
        """Those that Hydra must see when it composes."""
        return [*self.choices, *self.hydra]


def parse(overrides: list[str]) -> list[Override]:
    """Parsed overrides; Hydra must be initialized.

    Raises:
        LacunaError: one is not of the form ``key=value``.
    """
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    parsed: list[Override] = []
    for text in overrides:
        refuse_lightning_words(text)
        if text.startswith("~"):
            raise LacunaError(f"{text}: no key can be left out; set it to another value, or to null.")
        if "=" not in text:
            raise LacunaError(f"{text!r} is not of the form key=value; --help lists what can be chosen.")
        try:
            parsed += parser.parse_overrides([quoted(text)])
        except (OverrideParseException, HydraException) as error:
            raise LacunaError(
                f"The value of {text!r} cannot be read: put quotes around special characters, as in 'key=\"a b\"'."
            ) from error
    return parsed


def of_hydra(override: Override) -> bool:
    """Whether an override changes a setting of Hydra itself."""
    return override.key_or_group.replace(".", "/").split("/")[0] == "hydra"


def _is_choice(configs: Configs, override: Override) -> bool:
    group = override.key_or_group
    return override.package is not None or ("." not in group and configs.is_group(group))


def checked_choices(configs: Configs, config_name: str, parsed: list[Override]) -> list[Override]:
    """The overrides, their group choices checked.

    ``group=null`` is left out where null is the default, for Hydra does not understand it.

    Raises:
        LacunaError: a group that the verb does not take, null where something must be chosen, or several names.
    """
    accepted, kept = verb_groups(config_name, configs), list(parsed)
    for override in Overrides.of(configs, parsed).choices:
        group = override.key_or_group
        if override.package is not None:
            continue
        if group not in accepted:
            known = ", ".join(f"{name}=" for name in accepted) or "none"
            raise LacunaError(f"{override.input_line}: {config_name}.py takes no {group}; its groups are {known}.")
        if override.is_add():
            raise LacunaError(f"{override.input_line}: {group} can be chosen already, so write it without '+'.")
        value = override.value()
        if value is None and accepted[group] is None:
            kept.remove(override)
        elif value is None:
            raise LacunaError(f"{group}=null: choose one of {', '.join(configs.options(group))}.")
        elif not isinstance(value, str):
            raise LacunaError(f"{override.input_line}: {group} takes one name, such as {configs.options(group)[0]}.")
    return kept


def check_additions(base: DictConfig, values: list[Override]) -> None:
    """Check the overrides that add keys.

    A part (whatever has a ``type``) takes further keys, as arguments of its class, which refuses those it does not
    know. Nothing else would read a key that is not there.

    Args:
        base: the config without the values.
        values: overrides that set values.

    Raises:
        LacunaError: ``+`` before a key that exists, or ``+`` or ``++`` before one that nothing would read.
    """
    for override in values:
        if not override.is_add() and not override.is_force_add():
            continue
        key, bare = override.key_or_group, str(override.input_line).lstrip("+")
        if _exists(base, key):
            if override.is_add():
                raise LacunaError(f"{override.input_line}: {key} exists already, so write {bare} or ++{bare}.")
            continue
        part, _, name = key.partition(".")
        takes = name and _exists(base, f"{part}.type") and "training" not in name.split(".")
        if not takes:
            raise LacunaError(
                f"{override.input_line}: nothing reads the key {key}; '+' adds an argument to a part, as in"
                " +imputer.sigma=0.1."
            )


def _exists(config: DictConfig, key: str) -> bool:
    parent, _, last = key.rpartition(".")
    found = OmegaConf.select(config, parent, throw_on_missing=False) if parent else config
    return isinstance(found, DictConfig) and found._get_node(last, validate_access=False) is not None
