"""Write tables and figures to disk and to the terminal, from the runs that are done by now.

Nothing is trained. Torch is imported only for figures of masks.
"""

from __future__ import annotations

from pathlib import Path

from lacuna import files
from lacuna.report.figure_page import figure_text, write_figure
from lacuna.report.formats import as_csv, as_latex, as_markdown, as_text
from lacuna.report.table_page import index_page, table_page
from lacuna.tables.gather import gather
from lacuna.tables.plan import Plan


def render(plan: Plan, target: Path) -> list[Path]:
    """Write every table of a plan: ``<target>/<table>/`` holds index.html, table.md, table.tex and table.csv.

    The folder of a figure holds index.html and figure.png. If there are several tables, ``<target>/index.html`` lists
    them.

    Returns:
        The HTML pages, the list first.

    Raises:
        LacunaError: the folder cannot be written.
    """
    results, pages = gather(plan), []
    for result in results:
        folder = target / result.plan.folder
        if result.plan.spec.figure is not None:
            pages.append(write_figure(result, folder))
            continue
        files.write_text(folder / "table.md", as_markdown(result))
        files.write_text(folder / "table.tex", as_latex(result))
        files.write_text(folder / "table.csv", as_csv(result))
        files.write_text(folder / "index.html", table_page(result, folder))
        pages.append(folder / "index.html")
    if len(results) > 1:
        files.write_text(target / "index.html", index_page(results))
        pages.insert(0, target / "index.html")
    return pages


def text(plan: Plan) -> str:
    """The tables as text for a terminal."""
    return "\n\n".join(
        as_text(result) if result.plan.spec.figure is None else figure_text(result) for result in gather(plan)
    )
