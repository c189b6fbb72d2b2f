"""The package as a library: the names that ``import lacuna`` gives, and its cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lacuna


def test_every_public_name_is_there():
    for name in lacuna.__all__:
        assert getattr(lacuna, name) is not None
        assert name in dir(lacuna)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="colour"):
        lacuna.colour  # noqa: B018


def test_importing_is_cheap():
    code = "import sys, lacuna; print([m for m in ('torch', 'numpy', 'hydra') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
