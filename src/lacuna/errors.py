"""The exception whose message is meant for the user."""

from __future__ import annotations


class LacunaError(Exception):
    """An error that the user can correct; the message names the file or key and the fix.

    The command-line verbs print it without a traceback and exit with status 2.
    """
