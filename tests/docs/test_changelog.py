"""Whoever has an old config finds every renamed key in the changelog; the papers are cited."""

from __future__ import annotations

import yaml

from lacuna.runs.migration import KEYS, TYPES
from tests.docs.pages import ROOT


def test_every_renamed_key_and_type_is_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.strip().startswith("|")]
    for old, new in {**KEYS, **TYPES}.items():
        assert any(f"{old}`" in left and f"{new}`" in right for left, right in rows), f"{old} -> {new}"


def test_both_papers_are_cited() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    bibtex = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8").replace("{MisConv}", "MisConv")
    assert len(cited) == 2
    assert all(paper["title"] in bibtex for paper in cited)
