from __future__ import annotations

import pytest

from lacuna.drawing.latex import escape, latex_table
from lacuna.drawing.text_table import Cell


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("50% of a_b & c#1", r"50\% of a\_b \& c\#1"),
        ("{x}^2 ~ $", r"\{x\}\textasciicircum{}2 \textasciitilde{} \$"),
        ("a\\b", r"a\textbackslash{}b"),
        ("0.9 ± 0.1 − 2 – 3", r"0.9 $\pm$ 0.1 $-$ 2 -- 3"),
        ("Fréchet", "Fréchet"),
        ("Żółw", r"Żó\l{}w"),
        ("ę漢", "e?"),  # an ogonek needs another font encoding, a Chinese sign another program
        ("two\nlines\tand  blanks", "two lines and blanks"),
        ("[a]*", "{[}a{]}{*}"),  # behind a line's end both would be read as arguments of \\
    ],
)
def test_text_is_escaped(text: str, tex: str) -> None:
    assert escape(text) == tex


def test_marks_and_second_lines() -> None:
    rows = [
        {"": "a", "x": Cell("0.5", extra="± 0.1", below="paper 0.4", mark="best")},
        {"": "b", "x": Cell("0.4", mark="tie")},
        {"": "c", "x": Cell("to do", mark="missing")},
    ]
    tex = latex_table(rows, caption="C.", stressed="No.", label="a/b c", rules={2}, notes=["100 %"])
    assert r"\caption{C. \textbf{No.}}" in tex and r"\label{tab:a-b-c}" in tex and r"100 \%" in tex
    assert r"\textbf{0.5} {\footnotesize $\pm$ 0.1}\\{\footnotesize paper 0.4}" in tex
    assert r"\underline{0.4}" in tex and r"\textit{to do}" in tex
    assert r"{@{}lr@{}}" in tex and tex.count(r"\midrule") == 2
    assert tex.count("{") == tex.count("}")


def test_a_table_without_rows() -> None:
    assert "nothing yet" in latex_table([], caption="", label="x")
