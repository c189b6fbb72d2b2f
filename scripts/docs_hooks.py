"""Hooks of MkDocs (mkdocs.yml): pages made from the sources when the site is built.

The config groups, the commands, CONTRIBUTING, CHANGELOG and the archive's README become pages without a copy in docs/.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from scripts.config_pages import commands_page, config_pages  # noqa: E402

REFERENCE = "reference/configs"
COPIES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md", "results.md": "results/README.md"}
"""Pages of the site -> files of the repository."""
LINKS = (
    ("](../results/README.md)", "](results.md)"),
    ("](CHANGELOG.md)", "](changelog.md)"),
    ("](../../CONTRIBUTING.md", "](../contributing.md"),
    ("](../CONTRIBUTING.md", "](contributing.md"),
    ("](../../configs/search)", f"](../{REFERENCE}/search.md)"),
    ("](docs/", "]("),
)
"""Links that are right in the repository -> on the site."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name the pages of the config groups in the navigation."""
    pages = [{group: f"{REFERENCE}/{group}.md"} for group in config_pages()]
    for section in config.nav or []:
        for entry in section.get("Reference", []):
            if "Config groups" in entry:
                entry["Config groups"] = pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    made = {f"{REFERENCE}/{group}.md": text for group, text in config_pages().items()}
    made["reference/commands.md"] = commands_page()
    made |= {page: (ROOT / source).read_text(encoding="utf-8") for page, source in COPIES.items()}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Mend the links to files of the repository that are pages here."""
    for old, new in LINKS:
        markdown = markdown.replace(old, new)
    return markdown
