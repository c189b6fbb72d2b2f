"""The workflow tests what pyproject.toml promises."""

from __future__ import annotations

import re

import yaml

from tests.docs.pages import ROOT

JOBS = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]


def commands(job: str) -> str:
    """All that a job runs."""
    return "\n".join(step.get("run", "") for step in JOBS[job]["steps"])


def test_every_python_version_runs_the_checks_of_a_clone() -> None:
    versions = JOBS["checks"]["strategy"]["matrix"]["python"]
    lowest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert lowest is not None and versions[0] == lowest.group(1)
    assert ".ci/run" in commands("checks") and (ROOT / ".ci" / "run").is_file()


def test_lowest_versions_and_docs() -> None:
    assert "--resolution lowest-direct" in commands("lowest")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "make docs-build" in commands("docs") and "mkdocs build --strict" in makefile
