"""How this program was started, and so what to type: ``lacuna train`` where it is installed, ``python train.py`` in a
checkout of the repository.
"""

from __future__ import annotations

import sys
from pathlib import Path

VERBS = {
    "train": "train one run, and whatever it needs first",
    "evaluate": "evaluate a finished run on another mask or split",
    "impute": "complete your own images, at once or with a trained model",
    "reproduce": "plan, train and show the tables of the papers, or your own",
    "sweep": "search good hyper-parameters",
}
"""What a user types, with a line about each; each is a config of the same name."""

TOOLS = {
    "prepare": "prepare a data set, or read it from your own arrays",
    "migrate": "rename runs of an earlier version of the recipe",
}
"""Commands without a config: ``scripts/NAME.py`` in a checkout."""

_CHECKOUT = Path(__file__).resolve().parents[2]
"""The root of the repository, if this file is in one."""


def checkout() -> Path | None:
    """The repository that this package is imported from; None where it is installed as a wheel."""
    return _CHECKOUT if (_CHECKOUT / "configs" / "train.yaml").is_file() else None


def installed() -> bool:
    """Whether people type ``lacuna VERB``: this process was started so, or there is no checkout with scripts."""
    return _is_console(Path(sys.argv[0])) or _is_module(Path(sys.argv[0])) or checkout() is None


def command_text(name: str) -> str:
    """What people type: ``lacuna train``, or ``python train.py`` and ``python scripts/prepare.py`` in a checkout."""
    return " ".join(words(name))


def words(name: str) -> list[str]:
    """:func:`command_text`, word by word, to be quoted together with arguments."""
    if installed():
        return ["lacuna", name]
    return ["python", f"{name}.py" if name in VERBS else f"scripts/{name}.py"]


def this_command(verb: str) -> list[str]:
    """The command line that starts a verb in a new process in the way in which this one was started.

    A script of somebody's own that calls a verb is started again as it is.
    """
    started = Path(sys.argv[0])
    if _is_console(started):
        return [str(started), verb]
    if _is_module(started) or started.suffix != ".py":
        return [sys.executable, "-m", "lacuna", verb]
    if started.stem in VERBS:
        started = started.with_name(f"{verb}.py")
    return [sys.executable, str(started)]


def _is_console(started: Path) -> bool:
    """Whether this is the console script ``lacuna`` that an installer wrote."""
    return started.name in ("lacuna", "lacuna.exe")


def _is_module(started: Path) -> bool:
    """Whether this is ``python -m lacuna``."""
    return started.name == "__main__.py" and started.parent.name == "lacuna"
