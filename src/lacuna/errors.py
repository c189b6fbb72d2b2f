"""The one exception whose message is meant for the user."""

from __future__ import annotations


class LacunaError(Exception):
    """A mistake the user can mend: one clear sentence that names the file or key and the fix.

    The command-line verbs print it without a traceback and exit with status 2.
    """
