"""One self-contained HTML page: no script, no file beside it, nothing loaded from elsewhere. No torch in here.

It follows the reader's light or dark setting and fits a telephone. All text is escaped.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from lacuna.errors import LacunaError
from lacuna.files import write_text
from lacuna.report.table import TableRow, best_cells, cell_text, columns_of, is_numeric


@dataclass(frozen=True)
class Text:
    """Paragraphs (separated by blank lines) under an optional heading."""

    body: str
    heading: str | None = None


@dataclass(frozen=True)
class Table:
    """Rows with a caption. ``best`` maps a column to ``max`` or ``min``: its best value is bold."""

    rows: Sequence[TableRow]
    caption: str = ""
    heading: str | None = None
    best: Mapping[str, str] = field(default_factory=dict)
    digits: int = 4


@dataclass(frozen=True)
class Picture:
    """An image (PIL, or the bytes or path of a PNG file) with its alternative text and an optional caption."""

    image: Image.Image | bytes | Path
    alt: str
    caption: str = ""
    heading: str | None = None


Section = Text | Table | Picture


def write_page(path: Path, title: str, sections: Sequence[Section], *, lead: str = "", footer: str = "") -> None:
    """Write the page atomically.

    Args:
        path: where to; its folder is made.
        title: heading of the page and of the browser's tab.
        sections: what stands on it, from top to bottom.
        lead: one or two sentences under the title.
        footer: small print at the end.

    Raises:
        LacunaError: a picture that is no PNG, or a path that cannot be written.
    """
    write_text(path, render_page(title, sections, lead=lead, footer=footer))


def render_page(title: str, sections: Sequence[Section], *, lead: str = "", footer: str = "") -> str:
    """The page of :func:`write_page` as a string."""
    body = [f"<h1>{_text(title)}</h1>"]
    if lead:
        body.append(f'<p class="lead">{_text(lead)}</p>')
    body += [_section(section) for section in sections]
    if footer:
        body.append(f"<footer>{_paragraphs(footer)}</footer>")
    return _FRAME.format(title=_text(title), style=_STYLE, body="\n".join(body))


def _section(section: Section) -> str:
    heading = f"<h2>{_text(section.heading)}</h2>\n" if section.heading else ""
    if isinstance(section, Text):
        content = _paragraphs(section.body)
    elif isinstance(section, Table):
        content = _table(section)
    elif isinstance(section, Picture):
        content = _picture(section)
    else:
        raise LacunaError(f"A page has sections of Text, Table or Picture, not {type(section).__name__}.")
    return f"<section>\n{heading}{content}\n</section>"


def _paragraphs(text: str) -> str:
    parts = [part.strip() for part in text.split("\n\n")]
    return "\n".join(f"<p>{_text(part)}</p>" for part in parts if part)


def _table(table: Table) -> str:
    if not table.rows:
        return '<p class="empty">Nothing yet.</p>'
    titles, winners = columns_of(table.rows), best_cells(table.rows, table.best)
    kind = {title: ' class="number"' if is_numeric(table.rows, title) else "" for title in titles}

    def cell(i: int, title: str) -> str:
        text = _text(cell_text(table.rows[i].get(title), table.digits))
        inner = f"<strong>{text}</strong>" if (i, title) in winners else text
        return f"<td{kind[title]}>{inner}</td>"

    head = "".join(f'<th scope="col"{kind[title]}>{_text(title)}</th>' for title in titles)
    rows = "\n".join("<tr>" + "".join(cell(i, t) for t in titles) + "</tr>" for i in range(len(table.rows)))
    caption = f"<caption>{_text(table.caption)}</caption>\n" if table.caption else ""
    inner = f"{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    return f'<div class="scroll"><table>\n{inner}\n</table></div>'


def _picture(picture: Picture) -> str:
    data = _png(picture.image)
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    source = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<figure><img src="{source}" alt="{_text(picture.alt)}" width="{width}" height="{height}">{caption}</figure>'
    )


def _png(image: Image.Image | bytes | Path) -> bytes:
    if isinstance(image, Image.Image):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()
    if isinstance(image, bytes):
        data, name = image, "a picture"
    else:
        name = str(image)
        try:
            data = image.read_bytes()
        except OSError as error:
            raise LacunaError(f"The picture {name} cannot be read ({error.strerror}): make it again.") from error
    if not data.startswith(b"\x89PNG\r\n"):
        raise LacunaError(f"{name} for the page is not a PNG image: save it as PNG.")
    return data


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root { --ink: #1d2129; --soft: #5d6675; --paper: #ffffff; --line: #dfe3e9; --band: #f6f7f9; --accent: #a32a63; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ec; --soft: #9aa4b2; --paper: #15181d; --line: #313843; --band: #1c2027; --accent: #f08bb5; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 0 0 .7rem; }
p { margin: 0 0 .8rem; max-width: 44rem; }
.lead { font-size: 1.08rem; color: var(--soft); margin-bottom: 0; }
section { margin-top: 2.4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; min-width: 50%; }
caption { text-align: left; color: var(--soft); font-size: .9rem; padding-bottom: .6rem; caption-side: top; }
th, td { padding: .42rem .9rem .42rem .5rem; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); border-bottom-width: 2px; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
tbody tr:hover { background: var(--band); }
td strong { color: var(--accent); }
figure { margin: 0; }
img { max-width: 100%; height: auto; display: block; background: #ffffff; border: 1px solid var(--line);
  border-radius: 6px; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .5rem; max-width: 44rem; }
.empty { color: var(--soft); }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .85rem; }
"""
