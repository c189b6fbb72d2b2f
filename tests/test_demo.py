"""``make demo`` in miniature: everything it promises, on a few images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STEMS = ("zero", "mask", "partial", "knn", "mfa_mean", "misconv", "gt")


def demo(output: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), "--output", str(output), "--budget", "smoke", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
def test_table_picture_and_page(tmp_path):
    first = demo(tmp_path, "--seeds", "2")
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:9]] == list(STEMS)
    assert len(list((tmp_path / "runs").glob("*/metrics.json"))) == 2 * (len(STEMS) + 1)
    assert (tmp_path / "demo-smoke" / "digits.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "demo-smoke" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "http" not in page.replace("http://www.w3.org", "")
    again = demo(tmp_path, "--seeds", "2")
    assert again.stdout.splitlines()[:10] == lines[:10]


def test_no_seeds_is_one_sentence(tmp_path):
    result = demo(tmp_path, "--seeds", "0")
    assert result.returncode == 2 and result.stderr.strip() == "error: --seeds 0: at least one."
