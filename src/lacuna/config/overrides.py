"""Overrides of a command line, such as ``stem=misconv net.training.lr=1e-3``: group choices and values."""

from __future__ import annotations

from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException

from lacuna.config.help import options, verb_groups
from lacuna.errors import LacunaError


def parse(overrides: list[str]) -> list[Override]:
    """Parsed overrides; Hydra must be initialized.

    Raises:
        LacunaError: one is not of the form ``key=value``.
    """
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
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


def group_choices(configs: Path, parsed: list[Override]) -> list[Override]:
    """Those overrides that choose a member of a config group; the others set values."""
    return [override for override in parsed if _is_choice(configs, override)]


def _is_choice(configs: Path, override: Override) -> bool:
    group = override.key_or_group
    return override.package is not None or (
        not group.startswith("hydra") and "." not in group and (configs / group).is_dir()
    )


def checked_choices(configs: Path, config_name: str, parsed: list[Override]) -> list[Override]:
    """The overrides, their group choices checked.

    ``group=null`` is left out where null is the default, for Hydra does not understand it.

    Raises:
        LacunaError: a group that the verb does not take, null where something must be chosen, or several names.
    """
    accepted, kept = verb_groups(config_name, configs), list(parsed)
    for override in group_choices(configs, parsed):
        group = override.key_or_group
        if override.package is not None:
            continue
        if group not in accepted:
            known = ", ".join(f"{name}=" for name in accepted) or "none"
            raise LacunaError(f"{override.input_line}: {config_name}.py takes no {group}; its groups are {known}.")
        value = override.value()
        if value is None and accepted[group] is None:
            kept.remove(override)
        elif value is None:
            raise LacunaError(f"{group}=null: choose one of {', '.join(options(configs, group))}.")
        elif not isinstance(value, str):
            raise LacunaError(f"{override.input_line}: {group} takes one name, such as {options(configs, group)[0]}.")
    return kept
