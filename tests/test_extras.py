"""Optional packages: what is said where one is missing."""

from __future__ import annotations

import sys
import types

import pytest

from lacuna import extras
from lacuna.errors import LacunaError


def test_what_is_installed_is_imported():
    assert extras.require("json.decoder", "fid", "this test").JSONDecoder
    assert extras.installed("json")


def test_a_missing_package_is_one_sentence_with_the_command():
    with pytest.raises(LacunaError) as caught:
        extras.require("lacuna_no_such_package.part", "ray", "executor=ray")
    assert str(caught.value) == (
        f"executor=ray needs the package lacuna-no-such-package: pip install '{extras.DISTRIBUTION}[ray]'."
    )
    assert not extras.installed("lacuna_no_such_package")


def test_a_package_that_breaks_at_its_import_says_why(monkeypatch, tmp_path):
    (tmp_path / "lacuna_half_installed.py").write_text("import lacuna_its_own_need")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LacunaError, match=r"lacuna-half-installed \(No module named 'lacuna_its_own_need'\): pip "):
        extras.require("lacuna_half_installed", "ray", "executor=ray")


def test_a_blocked_package_counts_as_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert not extras.installed("wandb")
    with pytest.raises(LacunaError, match=r"logger=wandb needs the package wandb: pip"):
        extras.require("wandb", "wandb", "logger=wandb")
    monkeypatch.setitem(sys.modules, "wandb", types.ModuleType("wandb"))
    assert extras.require("wandb", "wandb", "logger=wandb") is sys.modules["wandb"]
