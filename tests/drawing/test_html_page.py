from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from lacuna.drawing.html_page import Picture, PictureRows, Section, Table, Text, render_page, write_page
from lacuna.errors import LacunaError

EVIL = "<script>alert(\"1\")</script> & 'x'"
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Collects tags and text, and checks that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def test_everything_is_escaped(tmp_path: Path) -> None:
    sections: list[Section] = [
        Text(EVIL, heading=EVIL),
        Table([{EVIL: EVIL}], caption=EVIL, heading=EVIL),
        Picture(Image.new("RGB", (3, 2)), alt=EVIL, caption=EVIL, heading=EVIL),
    ]
    path = tmp_path / "new" / "page.html"
    write_page(path, EVIL, sections, lead=EVIL, footer=EVIL)
    page = path.read_text(encoding="utf-8")
    reader = read(page)
    assert "<script" not in page and "script" not in [tag for tag, _ in reader.tags]
    assert reader.text.count(EVIL) == 12  # at every place but the alternative text
    assert next(attrs for tag, attrs in reader.tags if tag == "img")["alt"] == EVIL


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = render_page("t", [Text("a\n\nb"), Picture(Image.new("L", (3, 2), 7), "seven")])
    for tag, attrs in read(page).tags:
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "href"):
            assert (attrs.get(name) or "data:").startswith("data:")
    assert "url(" not in page and "@import" not in page
    encoded = re.search(r"data:image/png;base64,([^\"]+)", page)
    assert encoded is not None
    assert Image.open(io.BytesIO(base64.b64decode(encoded.group(1)))).getpixel((0, 0)) == 7
    assert page.count("<p>") == 2


def test_best_value_is_bold_and_holes_are_dashes() -> None:
    page = render_page("t", [Table([{"m": "a", "x": 0.25}, {"m": "b", "x": 0.5}, {"m": "c"}], best={"x": "max"})])
    assert page.count("<strong>") == 1 and "<strong>0.5000</strong>" in page
    assert '<td class="number">–</td>' in page
    assert "Nothing yet." in render_page("t", [Table([])])


def test_pictures_from_bytes_and_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (5, 4)).save(path)
    page = render_page("t", [Picture(path, "file"), Picture(path.read_bytes(), "bytes")])
    assert page.count('width="5" height="4"') == 2
    with pytest.raises(LacunaError, match="is not a PNG"):
        render_page("t", [Picture(b"GIF89a", "no")])
    with pytest.raises(LacunaError, match="cannot be read"):
        render_page("t", [Picture(tmp_path / "none.png", "no")])


def test_reports_need_no_torch() -> None:
    """Tables are rendered by processes that must start in a fraction of a second."""
    code = (
        "import sys, lacuna.drawing.text_table, lacuna.drawing.html_page, lacuna.drawing.pictures; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_titles_of_picture_rows_are_text_and_pictures_keep_their_pixels() -> None:
    image = Image.effect_noise((30, 10), 60).convert("RGB")
    reader = read(render_page("t", [PictureRows([(EVIL, image), ("second row", image)], caption="c", heading="h")]))
    assert EVIL in reader.text and reader.text.index("second row") > reader.text.index(EVIL)
    sources = [str(attributes["src"]) for tag, attributes in reader.tags if tag == "img"]
    assert len(sources) == 2
    for source in sources:
        data = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        with Image.open(io.BytesIO(data)) as shown:
            assert shown.convert("RGB").tobytes() == image.tobytes()
