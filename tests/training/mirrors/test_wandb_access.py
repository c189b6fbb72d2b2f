"""Where W&B is logged to: its own key look-up, its own modes, and a network that may not be there."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from lacuna.errors import LacunaError
from lacuna.training.mirrors import wandb_access
from lacuna.training.mirrors.wandb_access import chosen_mode, credentials_problem, reachable

KEY = "k" * 40


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of a server that refuses everything, as W&B's does without a key."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as found:
        found.RequestHandlerClass.log_message = lambda *words: None  # type: ignore[assignment, method-assign]
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()


@pytest.fixture
def silence() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def asked(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str | None:
    """The problem with the credentials in an environment, asked in what is a fresh process for wandb."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    wandb.teardown()
    return credentials_problem()


def test_a_key_is_found_where_wandb_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc, token, base = tmp_path / "netrc", tmp_path / "token", "https://wandb.example"
    assert "there is no W&B key for wandb.example" in str(asked(monkeypatch, WANDB_BASE_URL=base))
    netrc.write_text(f"machine elsewhere.example login user password {KEY}\n")
    assert asked(monkeypatch) is not None
    netrc.write_text(f"machine wandb.example login user password {KEY}\n")
    assert asked(monkeypatch) is None
    # `wandb login --host` writes the host to a settings file
    monkeypatch.delenv("WANDB_BASE_URL")
    assert asked(monkeypatch) is not None
    (tmp_path / "wandb-config").mkdir()
    (tmp_path / "wandb-config" / "settings").write_text(f"[default]\nbase_url = {base}\n")
    assert asked(monkeypatch) is None
    netrc.unlink()
    assert asked(monkeypatch) is not None
    assert asked(monkeypatch, WANDB_API_KEY=KEY) is None
    monkeypatch.delenv("WANDB_API_KEY")
    token.write_text("token")
    assert asked(monkeypatch, WANDB_IDENTITY_TOKEN_FILE=str(token)) is None
    problem = asked(monkeypatch, WANDB_API_KEY="of a wrong form")
    assert problem is not None and "\n" not in problem


def test_modes(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_mode(True) == ("offline", "")
    mode, reason = chosen_mode(None)
    assert mode == "offline" and "no W&B key" in reason
    assert asked(monkeypatch, WANDB_API_KEY=KEY, WANDB_BASE_URL=server) is None
    assert chosen_mode(None) == chosen_mode(False) == ("online", "")
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()
    assert chosen_mode(None) == ("offline", "") and chosen_mode(False) == ("online", "")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb.teardown()
    assert chosen_mode(None) == chosen_mode(False) == ("disabled", "")


def test_no_answer_is_found_out_in_time(server: str, silence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_access, "SECONDS", 1.0)
    assert reachable(server)
    for url in (silence, "http://127.0.0.1:9", "https://no-such-host.invalid", "nonsense"):
        assert not reachable(url)
    # a proxy that is not there stands between, unless it is not meant for this server
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert not reachable(server)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert reachable(server)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(LacunaError, match=r"logger=wandb needs the package wandb: pip install '.+\[wandb\]'"):
        credentials_problem()
