"""The reference of config groups leaves nothing out, and the site has every page it names."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lacuna.config.help import groups
from lacuna.config.paths import CONFIGS
from scripts.config_pages import ABOUT, VERBS, anchor, commands_page, config_pages, main
from tests.docs.pages import ROOT


def test_every_group_choice_and_key_is_there() -> None:
    pages = config_pages()
    assert list(pages) == groups(CONFIGS)
    assert set(pages) == set(ABOUT), "one line for each group in ABOUT of scripts/config_pages.py"
    for group, page in pages.items():
        for name in CONFIGS.options(group):
            assert f"`{group}={name}`](#{anchor(name)})" in page and f"{{#{anchor(name)}}}" in page
            for key in yaml.safe_load((CONFIGS.main / group / f"{name}.yaml").read_text(encoding="utf-8")) or {}:
                assert f"\n{key}:" in page


def test_every_verb_is_there() -> None:
    page = commands_page()
    assert set(VERBS) == {path.stem for path in CONFIGS.main.glob("*.yaml")}
    assert all(f"## {verb}.py" in page for verb in VERBS)


def test_one_page_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mask"]) == 0
    assert "fraction: 0.5" in capsys.readouterr().out


def test_navigation_names_files_that_exist() -> None:
    made = {"results.md", "contributing.md", "changelog.md", "reference/commands.md"}
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        assert not isinstance(parts, (str, type(None)))
        return [page for part in parts for page in pages(part)]  # type: ignore[union-attr]

    named = set(pages(site["nav"]))
    assert {name for name in named if not (ROOT / "docs" / name).is_file()} == made
    assert {path.relative_to(ROOT / "docs").as_posix() for path in Path(ROOT / "docs").rglob("*.md")} <= named


@pytest.mark.slow
def test_site_builds_without_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    assert (tmp_path / "reference" / "configs" / "mask" / "index.html").is_file()
    assert "log_prob" in (tmp_path / "reference" / "api" / "index.html").read_text(encoding="utf-8")
