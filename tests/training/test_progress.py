from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lacuna.training.progress import Progress, clock
from tests.runs.tiny import Killed, Tiny, fit


def shown(folder: Path, terminal: bool, **arguments: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    fit(folder, Tiny(), callbacks=[Progress("digits", console=console, **arguments)])
    return out.getvalue()


def test_plain_lines(tmp_path: Path) -> None:
    text = shown(tmp_path, terminal=False)
    lines = text.splitlines()
    assert len(lines) == 2  # seconds long: only start and end
    assert lines[0] == "digits  3 epochs of 5 steps"
    assert lines[1].startswith("digits  trained in 0:0")
    assert "val/loss" in lines[1]


def test_every_step_when_asked(tmp_path: Path) -> None:
    lines = shown(tmp_path, terminal=False, read_every=0.0, line_every=0.0).splitlines()
    assert len(lines) == 1 + 15 + 3 + 1
    assert lines[1].startswith("digits  6 % · epoch 1/3 · loss ") and " · ~1 s left" in lines[1]
    assert any("100 % · epoch 3/3 · " in line for line in lines)


def test_one_bar_on_a_terminal(tmp_path: Path) -> None:
    text = shown(tmp_path, terminal=True, read_every=0.0)
    assert "epoch 3/3" in text
    assert "100 %" in text
    assert "loss" in text


def test_the_share_counts_what_was_done_before_a_kill(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(tmp_path, Tiny("step10"))
    assert "resumed at 66 %" in shown(tmp_path, terminal=False)


def test_the_bar_is_gone_when_an_error_is_shown(tmp_path: Path) -> None:
    out = io.StringIO()
    progress = Progress("digits", console=Console(file=out, force_terminal=True), read_every=0.0)
    with pytest.raises(Killed):
        fit(tmp_path, Tiny("step4"), callbacks=[progress])
    assert out.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_clock() -> None:
    assert [clock(s) for s in (-1, 7.9, 754, 3723)] == ["0:00", "0:07", "12:34", "1:02:03"]
