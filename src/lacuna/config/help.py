"""The text of ``--help``, read from the config files without Hydra or torch."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

from lacuna.config.folders import Configs, read_yaml
from lacuna.program import command_text

EXAMPLE = "digits_misconv"

EXAMPLES = {
    "reproduce": (
        "table=demo",
        "table=misconv/table1 budget=quick plan=true",
        "table=misconv/table1 seeds=5 executor=ray",
        "table=misconv/table1 minutes=30",
        "table=misconv/table1 formula=authors",
        "table=prflow/table1_mnist rates=[0.5,0.95] rows=[linear,biharmonic,prflow]",
        "table=misconv/table1 -- net.training.lr=1e-4",
    ),
    "sweep": (
        "experiment=digits_misconv search=classifier trials=20",
        "experiment=digits_dmfa search=dmfa trials=40 seeds=2 executor=ray",
        "experiment=svhn_misconv search=classifier budget=quick net.training.batch_size=64",
    ),
    "evaluate": ("run=digits-square-misconv-s0", "run=digits-square-misconv-s0 mask=noise mask.rate=0.9"),
    "impute": (
        "imputer=linear input=my_images to=filled",
        "run=digits-square-dmfa-s0 input=my_images to=completed",
        "run=digits-square-dmfa-s0 --cfg",
    ),
}
"""Verb -> arguments of its examples, where they are not experiments."""


OPTIONS = """\
options
  -m, --multirun       run every combination of comma-separated values, each in a process of its own
  --cfg                print the resolved config and stop
  --cfg job|hydra|all  print the config as Hydra composes it; with --resolve, --package PART
  --config-dir DIR     a further folder of configs: your own choices for any group
  --config-name NAME   another base config; --config-path DIR: another folder for it
  --info [WHAT]        what Hydra knows: all, config, defaults, defaults-tree, plugins or searchpath
  -sc install=SHELL    code for completion in bash, zsh or fish, to be evaluated
  --hydra-help         Hydra's own help
  --version            print the versions of lacuna and Hydra
  -h, --help           print this text and stop"""


def groups(configs: Configs) -> list[str]:
    """Every config group, the experiments first."""
    return sorted(configs.groups, key=lambda name: name != "experiment")


def verb_groups(config_name: str, configs: Configs) -> dict[str, str | None]:
    """The groups a verb takes, in the order of :func:`groups` -> their default choice (None: null)."""
    found = _default_choices(config_name, configs)
    return {group: found[group] for group in groups(configs) if group in found}


def _default_choices(config_name: str, configs: Configs) -> dict[str, str | None]:
    """The choices in the defaults of a base config and of the base configs on which it builds."""
    found: dict[str, str | None] = {}
    for entry in read_yaml(configs.file(config_name)).get("defaults") or []:
        if isinstance(entry, dict):
            found |= {str(group).removeprefix("override").strip(" /"): choice for group, choice in entry.items()}
        elif entry not in ("_self_", config_name):
            found |= _default_choices(str(entry), configs)
    return found


def keys_of(configs: Configs, group: str, name: str) -> list[str]:
    """The keys in the config file of a choice, without those it inherits."""
    return [str(key) for key in read_yaml(configs.file(f"{group}/{name}")) if key != "defaults"]


def heading(path: Path | None) -> list[str]:
    """The comment lines a config file begins with, without ``#`` and Hydra's ``@package`` directive."""
    lines: list[str] = []
    if path is None:
        return lines
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            if line.strip() == "" and not lines:
                continue
            break
        text = line.lstrip("#")
        text = text[1:] if text.startswith(" ") else text
        if not text.lstrip().startswith("@package"):
            lines.append(text.rstrip())
    return lines


def usage(config_name: str, configs: Configs) -> str:
    """The whole help text of a verb."""
    width = min(shutil.get_terminal_size().columns, 110)
    about = heading(configs.file(config_name))
    parts = [f"usage: {command_text(config_name)} [-m] [--cfg] [group=choice ...] [key=value ...]"]
    if about:
        parts.append(_as_typed("\n".join(about)))
    chosen = verb_groups(config_name, configs)
    for group in chosen:
        names = configs.options(group)
        if group == "experiment":
            parts.append("experiment=\n" + "\n".join(_experiments(configs, names, width)))
        else:
            parts.append(_wrapped(f"{group}=", names, width))
    parts.append(OPTIONS)
    parts.append("examples\n" + "\n".join(f"  {line}" for line in examples(config_name, configs)))
    return "\n\n".join(parts)


def examples(config_name: str, configs: Configs) -> list[str]:
    """Command lines that the verb accepts."""
    lines: tuple[str, ...] = EXAMPLES.get(config_name, ("--cfg",))
    if config_name not in EXAMPLES and "experiment" in verb_groups(config_name, configs):
        names = configs.options("experiment")
        example = f"experiment={EXAMPLE if EXAMPLE in names else names[0]}"
        lines = (example, f"{example} --cfg", f"-m {example} seed=0,1,2")
    return [f"{command_text(config_name)} {line}" for line in lines]


def _as_typed(text: str) -> str:
    """Commands as config files write them, ``python train.py``, in the form that works here."""
    return re.sub(r"\bpython (\w+)\.py\b", lambda found: command_text(found[1]), text)


def _wrapped(title: str, names: list[str], width: int) -> str:
    return title + "\n" + textwrap.fill("  ".join(names), width, initial_indent="  ", subsequent_indent="  ")


def _experiments(configs: Configs, names: list[str], width: int) -> list[str]:
    column = max((len(name) for name in names), default=0)
    lines = []
    for name in names:
        about = heading(configs.file(f"experiment/{name}"))
        text = textwrap.shorten(about[0] if about else "", max(width - column - 4, 20), placeholder=" ...")
        lines.append(f"  {name:<{column}}  {text}".rstrip())
    return lines
