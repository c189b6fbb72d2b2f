"""Tables in documents: generated from the archive alone, and those of this repository are the present ones."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from lacuna.errors import LacunaError
from lacuna.papers import paper_table
from lacuna.report.docs_tables import DocsTables, documents, update
from lacuna.runs.archive import archive_runs
from lacuna.runs.archive_record import read_archived
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from tests.runs import real
from tests.tables.finished import finish

ROOT = Path(__file__).resolve().parents[2]
MARKER = "<!-- table misconv/table1 columns=mnist rows=[zero,mask] -->"
BLOCK = f"{MARKER}\n\nold\n\n<!-- end -->\n"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Of the paper's zero row on MNIST, of data that are nowhere."""
    config = real.config("experiment=mnist_zero")
    return resolve(config, "a-fingerprint")


@pytest.fixture
def results(recipe: Recipe, tmp_path: Path) -> Path:
    """An archive in which the zero row was run with three seeds."""
    images = {"images": {"train": 60_000, "test": 10_000}, "stored": {"train": 60_000, "test": 10_000}}
    for seed, value in enumerate((0.90, 0.91, 0.95)):
        finish(recipe.with_seed(seed), tmp_path / "outputs", {"test/accuracy": value}, **images)
    assert len(archive_runs(tmp_path / "outputs", tmp_path / "results").written) == 3
    return tmp_path / "results"


def cells(text: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_documents_of_this_repository_are_up_to_date() -> None:
    code = (
        "import sys; from pathlib import Path; from lacuna.report.docs_tables import update; "
        "print(*(p.name for p in update(Path(sys.argv[1]), Path(sys.argv[1]) / 'results', check=True))); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], "run make docs-tables"


def test_no_table_in_the_readme_is_typed() -> None:
    inside, typed = False, []
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        inside = (inside or line.startswith("<!-- table ")) and line != "<!-- end -->"
        typed += [line] if not inside and re.search(r"\|\s*\**[-−]?\.?\d", line) else []
    assert typed == []


def test_the_files_of_this_repositorys_archive_are_whole() -> None:
    for path in sorted((ROOT / "results").glob("*.json")):
        run = read_archived(path)
        assert run.metrics and run.attempts and run.commits, path


def test_a_table_shows_our_numbers_beside_the_papers_and_holes(results: Path) -> None:
    text = DocsTables(results).filled(f"before\n{BLOCK}after\n", "README.md")
    assert text.startswith(f"before\n{MARKER}\n") and text.endswith("<!-- end -->\nafter\n") and "old" not in text
    found, printed = cells(text), paper_table("misconv/table1")
    values = [0.90, 0.91, 0.95]
    mean, sd = sum(values) / 3, statistics.stdev(values)
    position = printed["columns"].index("mnist")
    assert found["zero imputation"] == [f"{mean:.3f} ± {sd:.3f} (3)", f"{printed['rows']['zero'][position]:.3f}"]
    assert found["zero imputation + mask channel"] == ["–", f"{printed['rows']['mask'][position]:.3f}"]
    assert (
        "table=misconv/table1" in text
        and "A CPU" in text
        and "abc123" in text
        and "10 000 test images" in (text.replace("\u00a0", " "))
    )


def test_one_value_alone_has_no_spread(results: Path, recipe: Recipe) -> None:
    for seed in (1, 2):
        (results / f"{recipe.with_seed(seed).name}.json").unlink()
    assert cells(DocsTables(results).filled(BLOCK, "x"))["zero imputation"][0] == "0.900 (1)"
    (results / f"{recipe.name}.json").unlink()
    text = DocsTables(results).filled(BLOCK, "x")
    assert cells(text)["zero imputation"][0] == "–" and "Nothing is measured yet" in text


def test_writing_is_done_once_and_checking_writes_nothing(results: Path, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    (root / "docs").mkdir(parents=True)
    (root / "README.md").write_text(f"# A\n\n{BLOCK}")
    (root / "docs" / "more.md").write_text("no table here\n")
    (root / "docs" / "page.md").write_text(BLOCK + "no line's end")
    before = [path.read_text() for path in documents(root)]
    stale = update(root, results, check=True)
    assert [path.name for path in stale] == ["README.md", "page.md"]
    assert [path.read_text() for path in documents(root)] == before
    assert update(root, results) == stale and update(root, results) == [] == update(root, results, check=True)
    assert (root / "docs" / "page.md").read_text().endswith("<!-- end -->\nno line's end")
    changed = (root / "README.md").read_text().replace("0.920", "0.921")
    (root / "README.md").write_text(changed)
    assert [path.name for path in update(root, results, check=True)] == ["README.md"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (MARKER, "no <!-- end -->"),
        (f"{MARKER}\n{BLOCK}", "no <!-- end -->"),
        ("<!-- table misconv/table99 -->\n<!-- end -->", "table99"),
        ("<!-- table columns=mnist -->\n<!-- end -->", "begins with the name of a table"),
        ("<!-- table misconv/table1 columns=fish -->\n<!-- end -->", "fish"),
        ("<!-- table misconv/table1 rows=fish -->\n<!-- end -->", "fish"),
        ("<!-- table misconv/table1 colour=red -->\n<!-- end -->", "colour"),
        ("<!-- table misconv/figure2 -->\n<!-- end -->", "a figure or several tables"),
        ("<!-- table misconv/all -->\n<!-- end -->", "a figure or several tables"),
    ],
)
def test_a_wrong_marker_is_named_by_file_and_line(text: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(LacunaError, match=part) as error:
        DocsTables(tmp_path).filled(f"one\n{text}\n", "docs/x.md")
    assert "docs/x.md, line " in str(error.value)
