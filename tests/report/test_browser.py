"""The page in a real browser: it renders, and no part of it makes a telephone scroll sideways."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from lacuna.drawing.html_page import Code, Picture, Table, Text, render_page
from lacuna.report.render import render
from tests.report.filled import filled
from tests.tables.planning import spec

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser here")

PHONE = 390
# A frame stands for a telephone: a page in it has its width (it is so high that there is no bar to scroll it down). The
# script is the test's, not the page's.
WRAPPER = """<!doctype html><body><iframe style="width:{width}px;height:20000px;border:0" srcdoc="{page}"></iframe>
<p id="width"></p><script>
document.querySelector("iframe").addEventListener("load", event => {{
  const root = event.target.contentDocument.documentElement;
  for (const details of root.querySelectorAll("details")) details.open = {opened};
  document.getElementById("width").textContent = "width=" + root.scrollWidth;
}});
</script></body>"""


def dom(path: Path, folder: Path) -> str:
    """The document as the browser has it, once it is loaded."""
    assert BROWSER is not None
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000",
        "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def width(page: str, folder: Path, opened: bool = True) -> int:
    """Pixels that a page wants on a screen of :data:`PHONE`."""
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER.format(width=PHONE, page=html.escape(page), opened=str(opened).lower()))
    found = re.search(r"width=(\d+)", dom(wrapper, folder))
    assert found is not None
    return int(found.group(1))


@pytest.fixture(scope="module")
def page(digits_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with everything: long labels, many columns, curves, pictures."""
    output = tmp_path_factory.mktemp("browser")
    columns = {
        name: {"label": f"a rather long name {name}", "choose": [f"mask={name}"]}
        for name in ("square", "noise", "trapezoid")
    }
    found = filled(digits_root, output, spec(columns=columns, title="x" * 80, note="y" * 90), complete=False)
    for run in found.runs.values():
        if run.folder.finished:
            run.folder.pictures.mkdir()
            Image.new("RGB", (900, 60), (200, 30, 90)).save(run.folder.pictures / "wide.png")
    (path,) = render(found, output / "tables")
    return path


def test_the_browser_renders_every_part(page: Path, tmp_path: Path) -> None:
    shown = dom(page, tmp_path)
    assert "Not comparable with the paper" in shown and "<strong>0.900</strong>" in shown
    for part in ("Protocol", "Learning curves", "Pictures", "Data", "Runs"):
        assert f"<h2>{part}</h2>" in shown
    assert shown.count("<polyline") == 7 and "<img" in shown and "</footer>" in shown


@pytest.mark.parametrize("opened", [False, True])
def test_a_telephone_need_not_scroll_sideways(opened: bool, page: Path, tmp_path: Path) -> None:
    assert width(page.read_text(encoding="utf-8"), tmp_path, opened) == PHONE


def test_nor_for_any_other_section(tmp_path: Path) -> None:
    sections = [
        Table([{f"column {i}": "unbreakable" * 3 for i in range(9)}], caption="c" * 90),
        Code("z" * 300),
        Picture(Image.new("L", (1200, 20)), "wide"),
        Text("https://" + "a" * 200),
    ]
    assert width(render_page("t" * 99, sections), tmp_path) == PHONE


def test_the_measure_sees_what_is_too_wide(tmp_path: Path) -> None:
    assert width('<body style="margin:0"><div style="width:700px">x</div></body>', tmp_path) == 700
