"""The command ``lacuna``: a verb and its arguments. In a checkout the scripts at the top level do the same.

Nothing is imported before it is known what to do: ``lacuna --help`` and ``lacuna train --help`` need no torch.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from lacuna.program import TOOLS, VERBS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        arguments: of the command line, the verb first; None: those of this process.

    Returns:
        The exit code of the verb; 2 where there is no such verb.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        try:
            print(usage(), flush=True)
        except BrokenPipeError:
            from lacuna.verbs.command import reader_left

            return reader_left()
        return 0
    if name == "--version":
        import lacuna

        print(f"lacuna {lacuna.__version__}")
        return 0
    if name in VERBS:
        from lacuna.verbs.command import verb

        return verb(name, f"lacuna.verbs.{name}:main")(rest)
    if name in TOOLS:
        code: int = importlib.import_module(f"lacuna.verbs.{name}").main(rest)
        return code
    close = difflib.get_close_matches(name, [*VERBS, *TOOLS], n=1)
    hint = f"did you mean {close[0]}?" if close else f"the verbs are {', '.join([*VERBS, *TOOLS])}."
    print(f"error: There is no verb {name!r}: {hint}", file=sys.stderr)
    return 2


def usage() -> str:
    """The text of ``lacuna --help``."""
    known = VERBS | TOOLS
    width = max(map(len, known))
    lines = [f"  {name:<{width}}  {about}" for name, about in known.items()]
    return "\n".join(
        [
            "usage: lacuna VERB [arguments]",
            "",
            "Learning from incomplete images.",
            "",
            *lines,
            "",
            "  lacuna VERB --help   its arguments, with examples",
            "  lacuna --version     print the version",
        ]
    )
