"""One self-contained HTML page: no script, no file beside it, nothing loaded from elsewhere. No torch in here.

It follows the reader's light or dark setting and fits a telephone. All text is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from lacuna.drawing.line_charts import Line, Panel, legend_html, panel_svg
from lacuna.drawing.page_style import FRAME, STYLE
from lacuna.drawing.png_source import png_source
from lacuna.drawing.text_table import BEST, MISSING, Cell, TableRow, best_cells, cell_text, columns_of, is_numeric
from lacuna.errors import LacunaError
from lacuna.files import write_text


@dataclass(frozen=True)
class Text:
    """Paragraphs (separated by blank lines) under an optional heading."""

    body: str
    heading: str | None = None


@dataclass(frozen=True)
class Notice:
    """What nobody may overlook: a framed box with a bold first line and points below."""

    title: str
    points: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """Rows with a caption.

    Args:
        best: column -> ``max`` or ``min``: its best value is bold (a :class:`Cell` says that itself).
        digits: of floats.
        heads: column -> a second, small line in its head.
        row_heads: the first column names the rows.
        rules: numbers of rows above which there is a rule.
    """

    rows: Sequence[TableRow]
    caption: str = ""
    heading: str | None = None
    best: Mapping[str, str] = field(default_factory=dict)
    digits: int = 4
    heads: Mapping[str, str] = field(default_factory=dict)
    row_heads: bool = False
    rules: Collection[int] = ()


@dataclass(frozen=True)
class Facts:
    """What is called what: a definition list."""

    facts: Sequence[tuple[str, str]]
    heading: str | None = None


@dataclass(frozen=True)
class Picture:
    """An image (PIL, or the bytes or path of a PNG file) with its alternative text and an optional caption."""

    image: Image.Image | bytes | Path
    alt: str
    caption: str = ""
    heading: str | None = None


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side where there is room."""

    pictures: Sequence[Picture]
    heading: str | None = None


@dataclass(frozen=True)
class PictureRows:
    """Strips of pictures under each other; their titles are text of the page, not of the pictures."""

    rows: Sequence[tuple[str, Image.Image]]
    caption: str = ""
    heading: str | None = None


@dataclass(frozen=True)
class Charts:
    """Line charts side by side, with one legend."""

    panels: Sequence[Panel]
    caption: str = ""
    heading: str | None = None


@dataclass(frozen=True)
class Links:
    """Addresses (relative to the page) with their names and a remark."""

    links: Sequence[tuple[str, str, str]]
    heading: str | None = None


@dataclass(frozen=True)
class Details:
    """Sections behind a line to click on."""

    summary: str
    sections: Sequence[Section]
    open: bool = False
    heading: str | None = None


@dataclass(frozen=True)
class Code:
    """Preformatted text: a traceback, a command."""

    body: str
    heading: str | None = None


Section = Text | Notice | Table | Facts | Picture | Gallery | PictureRows | Charts | Links | Details | Code


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
    return FRAME.format(title=_text(title), style=STYLE, body="\n".join(body))


def _section(section: Section) -> str:
    write = _WRITERS.get(type(section))
    if write is None:
        known = ", ".join(kind.__name__ for kind in _WRITERS)
        raise LacunaError(f"A page has sections of {known}, not {type(section).__name__}.")
    title = getattr(section, "heading", None)
    heading = f"<h2>{_text(title)}</h2>\n" if title else ""
    kind = ' class="details"' if isinstance(section, Details) else ""
    return f"<section{kind}>\n{heading}{write(section)}\n</section>"


def _paragraphs(text: str) -> str:
    parts = [part.strip() for part in text.split("\n\n")]
    return "\n".join(f"<p>{_text(part)}</p>" for part in parts if part)


def _notice(notice: Notice) -> str:
    points = "".join(f"<li>{_text(point)}</li>" for point in notice.points)
    listed = f"<ul>{points}</ul>" if points else ""
    return f'<aside class="notice"><p><strong>{_text(notice.title)}</strong></p>{listed}</aside>'


def _facts(facts: Facts) -> str:
    return "<dl>" + "".join(f"<dt>{_text(name)}</dt><dd>{_text(fact)}</dd>" for name, fact in facts.facts) + "</dl>"


def _charts(charts: Charts) -> str:
    lines: list[Line] = [line for panel in charts.panels for line in panel.lines]
    heads = [f"<figcaption><b>{_text(panel.title)}</b> {_text(panel.y_label)}</figcaption>" for panel in charts.panels]
    drawn = zip(heads, map(panel_svg, charts.panels), strict=True)
    figures = "\n".join(f"<figure>{head}{svg}</figure>" for head, svg in drawn)
    caption = f'<p class="small">{_text(charts.caption)}</p>' if charts.caption else ""
    return f'{caption}{legend_html(lines)}<div class="charts">{figures}</div>'


def _links(links: Links) -> str:
    entries = "".join(
        f'<li><a href="{_text(address)}">{_text(name)}</a> <span class="extra">{_text(remark)}</span></li>'
        for name, address, remark in links.links
    )
    return f'<ul class="links">{entries}</ul>'


def _details(details: Details) -> str:
    inner = "\n".join(_section(section) for section in details.sections)
    return f"<details{' open' * details.open}><summary>{_text(details.summary)}</summary>\n{inner}\n</details>"


def _code(code: Code) -> str:
    return f"<pre>{_text(code.body)}</pre>"


def _table(table: Table) -> str:
    if not table.rows:
        return '<p class="empty">Nothing yet.</p>'
    titles, winners = columns_of(table.rows), best_cells(table.rows, table.best)
    kind = {title: "number" if is_numeric(table.rows, title) else "" for title in titles}

    def head(title: str) -> str:
        second = f'<span class="below">{_text(table.heads[title])}</span>' if table.heads.get(title) else ""
        return f'<th scope="col"{_class(kind[title])}>{_text(title)}{second}</th>'

    def cell(i: int, j: int, title: str) -> str:
        value = table.rows[i].get(title)
        inner = _inside(value, table.digits)
        if (i, title) in winners and not isinstance(value, Cell):
            inner = f"<strong>{inner}</strong>"
        mark = value.mark if isinstance(value, Cell) else ""
        tag, scope = ("th", ' scope="row"') if table.row_heads and j == 0 else ("td", "")
        return f"<{tag}{scope}{_class(kind[title], mark)}>{inner}</{tag}>"

    rows = "\n".join(
        f"<tr{_class('rule' if i in table.rules else '')}>"
        + "".join(cell(i, j, t) for j, t in enumerate(titles))
        + "</tr>"
        for i in range(len(table.rows))
    )
    # outside the scrolling part, so that a narrow screen shows all of it
    caption = f'<p class="small">{_text(table.caption)}</p>\n' if table.caption else ""
    inner = f"<thead><tr>{''.join(head(title) for title in titles)}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    return f'{caption}<div class="scroll" tabindex="0"><table>\n{inner}\n</table></div>'


def _inside(value: Any, digits: int) -> str:
    if not isinstance(value, Cell):
        return _text(cell_text(value, digits))
    text = _text(value.text or MISSING)
    text = f'<a href="{_text(value.link)}">{text}</a>' if value.link else text
    text = f"<strong>{text}</strong>" if value.mark == BEST else text
    extra = f' <span class="extra">{_text(value.extra)}</span>' if value.extra else ""
    below = f'<span class="below">{_text(value.below)}</span>' if value.below else ""
    return f'<span class="value">{text}</span>{extra}{below}'


def _class(*names: str) -> str:
    joined = " ".join(name for name in names if name)
    return f' class="{joined}"' if joined else ""


def _picture(picture: Picture) -> str:
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else ""
    return f"<figure>{_image(picture.image, picture.alt)}{caption}</figure>"


def _picture_rows(rows: PictureRows) -> str:
    caption = f"<figcaption>{_text(rows.caption)}</figcaption>" if rows.caption else ""
    shown = "\n".join(
        f'<div class="strip"><span>{_text(title)}</span>{_image(image, title)}</div>' for title, image in rows.rows
    )
    return f'<figure class="strips">\n{shown}\n{caption}</figure>'


def _image(image: Image.Image | bytes | Path, alt: str) -> str:
    source, width, height = png_source(image)
    return f'<img src="{source}" alt="{_text(alt)}" width="{width}" height="{height}">'


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


_WRITERS: Mapping[type, Callable[[Any], str]] = {
    Text: lambda text: _paragraphs(text.body),
    Notice: _notice,
    Table: _table,
    Facts: _facts,
    Picture: _picture,
    Gallery: lambda gallery: f'<div class="gallery">{"".join(map(_picture, gallery.pictures))}</div>',
    PictureRows: _picture_rows,
    Charts: _charts,
    Links: _links,
    Details: _details,
    Code: _code,
}
