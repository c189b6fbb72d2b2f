"""What ``--help`` prints: read from the config folder as text, so it needs neither Hydra nor torch."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

NOT_SHOWN = ("hydra",)
EXAMPLE = "digits_misconv"


def options(configs: Path, group: str) -> list[str]:
    """The names one may choose in a config group, sorted; sub-folders give ``folder/name``.

    A file whose name begins with ``_`` is a piece for other configs and not to be chosen.
    """
    folder = configs / group
    found = [path for path in folder.rglob("*.yaml") if not path.name.startswith("_")]
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in found)


def groups(configs: Path) -> list[str]:
    """Every config group, the experiments first."""
    found = sorted(path.name for path in configs.iterdir() if path.is_dir() and any(path.rglob("*.yaml")))
    found = [name for name in found if name not in NOT_SHOWN]
    return sorted(found, key=lambda name: name != "experiment")


def heading(path: Path) -> list[str]:
    """The comment lines a config file begins with, without ``#`` and Hydra's ``@package`` directive."""
    lines: list[str] = []
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


def usage(config_name: str, configs: Path) -> str:
    """The whole help text of a verb."""
    width = min(shutil.get_terminal_size().columns, 110)
    about = heading(configs / f"{config_name}.yaml")
    parts = [f"usage: python {config_name}.py [-m] [--cfg] [group=choice ...] [key=value ...]"]
    if about:
        parts.append("\n".join(about))
    for group in groups(configs):
        names = options(configs, group)
        if group == "experiment":
            parts.append("experiment=\n" + "\n".join(_experiments(configs, names, width)))
        else:
            parts.append(_wrapped(f"{group}=", names, width))
    parts.append(
        "options\n"
        "  -m, --multirun   run every combination of comma-separated values, each in a process of its own\n"
        "  --cfg            print the resolved config and stop\n"
        "  -h, --help       print this text and stop"
    )
    names = options(configs, "experiment")
    example = EXAMPLE if EXAMPLE in names else next(iter(names), None)
    chosen = f" experiment={example}" if example else ""
    parts.append(
        "examples\n"
        f"  python {config_name}.py{chosen}\n"
        f"  python {config_name}.py{chosen} --cfg\n"
        f"  python {config_name}.py -m{chosen} seed=0,1,2"
    )
    return "\n\n".join(parts)


def _wrapped(title: str, names: list[str], width: int) -> str:
    return title + "\n" + textwrap.fill("  ".join(names), width, initial_indent="  ", subsequent_indent="  ")


def _experiments(configs: Path, names: list[str], width: int) -> list[str]:
    column = max((len(name) for name in names), default=0)
    lines = []
    for name in names:
        about = heading(configs / "experiment" / f"{name}.yaml")
        text = f"  {name:<{column}}  {about[0] if about else ''}".rstrip()
        lines.append(textwrap.shorten(text, width, placeholder=" ...") if len(text) > width else text)
    return ["  " + line.strip() if not line.startswith("  ") else line for line in lines]
