"""Tables in LaTeX, with booktabs. Text may have any characters: those that pdfLaTeX lacks are replaced by ASCII."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence

from lacuna.drawing.text_table import BEST, NO_NUMBER, TIE, Cell, TableRow, cell_text, columns_of, is_numeric

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}",
    '"': "''", "±": r"$\pm$", "−": r"$-$", "×": r"$\times$", "–": "--", "—": "---",
    "†": r"$\dagger$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≤": r"$\le$", "≥": r"$\ge$", "≠": r"$\ne$",
    "…": r"\ldots{}", "“": "``", "”": "''", "’": "'", "‘": "`", "·": r"$\cdot$", "°": r"$^\circ$", "²": "$^2$",
    "³": "$^3$", "µ": r"$\mu$", "α": r"$\alpha$", "σ": r"$\sigma$", "\u00a0": "~", "ß": r"\ss{}",
}  # fmt: skip
ACCENTS = frozenset("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")
"""Combining marks that every LaTeX font has."""
_ONE_LETTER = {"ł": r"\l{}", "Ł": r"\L{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}"}


def latex_table(
    rows: Sequence[TableRow],
    *,
    caption: str,
    stressed: str = "",
    label: str,
    notes: Sequence[str] = (),
    rules: Collection[int] = (),
    digits: int = 4,
) -> str:
    r"""A ``table`` environment to ``\input``; needs booktabs.

    Args:
        rows: may be empty.
        caption: above the table.
        stressed: end of the caption, in bold.
        label: for ``\ref``, without ``tab:``.
        notes: small paragraphs below the table.
        rules: indices of rows with a rule above them.
        digits: of plain floats.
    """
    titles = columns_of(rows)
    right = [is_numeric(rows, title) for title in titles]
    lines = [" & ".join(escape(title) for title in titles) + r" \\", r"\midrule"]
    for i, row in enumerate(rows):
        lines += [r"\midrule"] if i and i in rules else []
        lines.append(" & ".join(_cell(row.get(title), digits) for title in titles) + r" \\ \addlinespace[1pt]")
    if not rows:
        titles, right, lines = ["nothing yet"], [False], [r"nothing yet \\"]
    body = "\n".join(f"    {line}" for line in lines)
    small = "".join(f"\n    {escape(note)}\\par" for note in notes)
    box = f"\\begin{{minipage}}{{\\linewidth}}\\footnotesize{small}\n  \\end{{minipage}}"
    below = f"\n  \\par\\medskip\n  {box}" if notes else ""
    bold = f" \\textbf{{{escape(stressed)}}}" if stressed else ""
    columns = "".join("r" if flush else "l" for flush in right)
    tabular = f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}\n    \\toprule\n{body}\n    \\bottomrule\n  \\end{{tabular}}"
    return (
        "% needs \\usepackage{booktabs}\n"
        "\\begin{table}\n  \\centering\n"
        f"  \\caption{{{escape(caption)}{bold}}}\n  \\label{{tab:{re.sub(r'[^A-Za-z0-9:-]', '-', label)}}}\n"
        f"  \\medskip\n  {tabular}"
        f"{below}\n\\end{{table}}\n"
    )


def escape(text: str) -> str:
    """Text with the special characters of LaTeX escaped."""
    return "".join(_letter(letter) for letter in " ".join(str(text).split()))


def _cell(value: object, digits: int) -> str:
    if not isinstance(value, Cell):
        return escape(cell_text(value, digits))
    text = escape(value.text)
    styles = {BEST: rf"\textbf{{{text}}}", TIE: rf"\underline{{{text}}}", NO_NUMBER: rf"\textit{{{text}}}"}
    text = styles.get(value.mark, text) + (rf" {{\footnotesize {escape(value.extra)}}}" if value.extra else "")
    if not value.below:
        return text
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{text}\\{{\footnotesize {escape(value.below)}}}\end{{tabular}}"


def _letter(letter: str) -> str:
    if letter in SPECIAL:
        return SPECIAL[letter]
    if letter in _ONE_LETTER:
        return _ONE_LETTER[letter]
    if " " <= letter < "\x7f":
        return letter
    parts = unicodedata.normalize("NFKD", letter)
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in ACCENTS:
        return letter
    return "".join(SPECIAL.get(part, part) for part in parts if " " <= part < "\x7f") or "?"
