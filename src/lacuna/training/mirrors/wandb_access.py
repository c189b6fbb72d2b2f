"""Whether W&B can be reached from here, and with whose key: asked of wandb itself, in seconds."""

from __future__ import annotations

import os
import ssl
import sys
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from lacuna.extras import require

SECONDS = 4.0
"""For an answer of the server, looking up its name included."""

_told: set[str] = set()


def package() -> Any:
    """The package wandb.

    Raises:
        LacunaError: it is not installed.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # what there is to say is said in lines of this program's own
    return require("wandb", "wandb", "logger=wandb")


def chosen_mode(offline: bool | None) -> tuple[str, str]:
    """How to log, and why not online.

    Args:
        offline: of the config; None: WANDB_MODE or ``wandb offline`` decides, then key and network.

    Returns:
        ``online``, ``offline`` or ``disabled``, and the reason where neither the user nor wandb's settings chose it.
    """
    if offline:
        return "offline", ""
    settings = _settings()
    mode = {"dryrun": "offline", "run": "online"}.get(str(settings.mode), str(settings.mode))
    if mode in ("offline", "disabled") and (offline is None or mode == "disabled"):
        return mode, ""
    url = str(settings.base_url)
    problem = credentials_problem() or (None if reachable(url) else f"{host_of(url)} does not answer")
    return ("online", "") if problem is None else ("offline", problem)


def credentials_problem() -> str | None:
    """Why wandb finds no key for its server in environment, netrc and settings files; None if it finds one."""
    package()
    from wandb.errors import Error

    settings = _settings()
    try:
        from wandb.sdk.lib import wbauth

        found: Any = wbauth.authenticate_session(
            host=settings.base_url, source="lacuna", prompt=False, update_session=False, verify=False
        )
    except Error as error:  # a key of a wrong form, or keys of two kinds
        return " ".join(str(error).split()).rstrip(".")
    except (ImportError, TypeError):  # of another version of wandb
        found = settings.api_key or os.environ.get("WANDB_IDENTITY_TOKEN_FILE")
    return None if found else f"there is no W&B key for {host_of(str(settings.base_url))}"


def reachable(url: str) -> bool:
    """Whether a server answers within :data:`SECONDS`, whatever it says; by a proxy, if HTTPS_PROXY names one."""
    answered: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.build_opener().open(url, timeout=SECONDS):
                answered.append(True)
        except urllib.error.HTTPError:  # it is there
            answered.append(True)
        except urllib.error.URLError as error:  # certificates are for wandb to judge, which knows others
            answered.append(isinstance(error.reason, ssl.SSLError))
        except (OSError, ValueError, HTTPException):
            return

    # in a thread, because looking up a name has no time limit of its own
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return any(answered)


def host_of(url: str) -> str:
    """The server of a URL, for people."""
    return urlsplit(url).netloc or url


def tell_once(text: str) -> None:
    """Print a line on standard error, once a process: a table has hundreds of runs."""
    if text not in _told:
        _told.add(text)
        print(text, file=sys.stderr, flush=True)


def _settings() -> Any:
    """Those of wandb: its defaults, its settings files, and the environment when it was first asked."""
    package()
    from wandb.sdk import wandb_setup

    return wandb_setup.singleton().settings
