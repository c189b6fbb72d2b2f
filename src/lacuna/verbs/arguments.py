"""The options of every verb: those of ``hydra.main``, under the same names. Imports no Hydra: ``--help`` is quick."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from lacuna.errors import LacunaError

CFG = ("job", "hydra", "all")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
EXCLUSIVE = ("multirun", "cfg", "info", "shell_completion", "hydra_help")


@dataclass(frozen=True)
class Arguments:
    """One command line.

    Args:
        overrides: ``key=value`` words.
        behind: the words behind ``--``, for the runs that a verb starts.
        help, version, hydra_help: print that and stop.
        multirun: run every combination of listed values.
        cfg: ``job``, ``hydra`` or ``all``: print that config as Hydra composes it; ``""``: the one that the verb gets.
        resolve: resolve interpolations in what ``cfg`` prints.
        package: print only this part of it.
        info: what of Hydra's information to print.
        shell_completion: install, remove or ask for completions.
        config_path: another folder with the base configs.
        config_name: another base config.
        config_dir: a further folder of configs.
    """

    overrides: list[str]
    behind: list[str]
    help: bool
    version: bool
    hydra_help: bool
    multirun: bool
    cfg: str | None
    resolve: bool
    package: str | None
    info: str | None
    shell_completion: bool
    config_path: str | None
    config_name: str | None
    config_dir: str | None


def read_arguments(words: Sequence[str]) -> Arguments:
    """Read a command line.

    Raises:
        LacunaError: an unknown option, one without its value, or two that exclude each other.
    """
    end = words.index("--") if "--" in words else len(words)
    given, behind = list(words[:end]), list(words[end + 1 :])
    found = _parser().parse_intermixed_args(_with_values(given))
    if found.experimental_rerun:
        raise LacunaError("--experimental-rerun: run the same command again instead; an interrupted run resumes.")
    used = [name for name in EXCLUSIVE if getattr(found, name) not in (None, False)]
    if len(used) > 1:
        first, second = (_option(name) for name in used[:2])
        raise LacunaError(f"{first} and {second} exclude each other: leave out one of the two.")
    for name in ("resolve", "package"):
        if getattr(found, name) and found.cfg is None:
            raise LacunaError(f"--{name} changes what --cfg prints: add --cfg job.")
    values = vars(found)
    del values["run"], values["experimental_rerun"]
    return Arguments(behind=behind, **values)


def _option(name: str) -> str:
    return {"multirun": "-m"}.get(name, f"--{name.replace('_', '-')}")


def _with_values(words: list[str]) -> list[str]:
    """``--cfg``, which Hydra knows with a value only, and ``--info`` before an override, each with its value."""
    found = list(words)
    for at, word in enumerate(words):
        following = words[at + 1] if at + 1 < len(words) else ""
        if word in ("--cfg", "-c") and following not in CFG:
            found[at] = "--cfg="
        if word in ("--info", "-i") and following not in INFO:
            found[at] = "--info=all"
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise a mistake as a sentence; argparse would print its usage and exit."""
        if "unrecognized arguments: " in message:
            word = message.partition("unrecognized arguments: ")[2].split()[0]
            raise LacunaError(f"Unknown option {word!r}: --help lists the options.")
        raise LacunaError(f"{message.removeprefix('argument ')}; --help lists the options.")


def _parser() -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    for names in (
        ("--help", "-h"),
        ("--version",),
        ("--hydra-help",),
        ("--run", "-r"),
        ("--multirun", "-m"),
        ("--resolve",),
        ("--shell-completion", "-sc"),
    ):
        parser.add_argument(*names, action="store_true")
    parser.add_argument("--cfg", "-c", choices=["", *CFG], metavar="{job,hydra,all}")
    parser.add_argument("--info", "-i", choices=INFO)
    for names in (
        ("--package", "-p"),
        ("--config-path", "-cp"),
        ("--config-name", "-cn"),
        ("--config-dir", "-cd"),
        ("--experimental-rerun",),
    ):
        parser.add_argument(*names)
    return parser
