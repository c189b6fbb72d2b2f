"""Write docs/settings.md: all settings of the papers, of the authors' code and of lacuna, from src/lacuna/papers.yaml.

python scripts/settings.py              write docs/settings.md
python scripts/settings.py check=true   exit 1 if it is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lacuna.papers import SETTINGS, Experiment, Setting, experiments, papers

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
HEAD = """# Settings: the papers, the authors' code, and here

<!-- Written by scripts/settings.py from src/lacuna/papers.yaml; do not edit. -->

At `budget=paper` a row named after a paper's method has the paper's setting. If the paper gives no value, ours is that
of the authors' public code; if that is wrong, ours is the mathematically correct one, and the last column says why. A
run whose settings differ from the column *here* is labelled `changed` (or `cut`, if it uses fewer images) instead of
`paper`, in its name and in every table. `tests/test_settings.py` resolves every recipe of `table=all` and compares it
with the data of this page.

Empty cells: the paper, or the code, gives no value. Several values: the others are used in separate rows.
"""


def page() -> str:
    """The page in Markdown."""
    parts = [HEAD, _splits()]
    for experiment in experiments():
        parts.append("\n".join([f"## {experiment.name}", "", f"{experiment.source}.", "", *_rows(experiment)]))
    return "\n\n".join([*parts, _differences()]) + "\n"


def _splits() -> str:
    lines = ["## images", "", "All training and test images of a set are used; none is set aside for validation.", ""]
    lines += ["| data | training | test | remark |", "|---|---:|---:|---|"]
    for name, split in papers()[SETTINGS]["splits"].items():
        lines.append(f"| {name} | {split['train']} | {split['test']} | {split.get('reason', '')} |")
    return "\n".join(lines)


def _rows(experiment: Experiment) -> Iterator[str]:
    yield "| setting | paper | authors' code | here | reason |"
    yield "|---|---|---|---|---|"
    for setting in experiment.settings.values():
        code = setting.code if setting.code is not None else ""
        here = ", ".join(map(_value, (setting.expected, *setting.also)))
        yield f"| `{setting.key}` | {_value(setting.paper)} | {_value(code)} | {here} | {_plain(setting)} |"


def _differences() -> str:
    lines = [
        "## rows with other settings",
        "",
        "Rows of ours in the papers' tables that differ from the above:",
        "",
    ]
    listed = papers()[SETTINGS]["differences"]
    lines += ["| experiment | setting | value | reason |", "|---|---|---|---|"]
    for entry in listed:
        reason = entry["reason"].replace("|", "\\|")
        lines.append(f"| {entry['experiment']} | `{entry['key']}` | {_value(entry['value'])} | {reason} |")
    return "\n".join(lines if listed else lines[:2] + ["None."])


def _value(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, float) and not 0.001 <= abs(value) < 10_000 and value:
        mantissa, exponent = f"{value:.15e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(setting: Setting) -> str:
    return setting.reason.replace("|", "\\|")


def main(words: list[str]) -> int:
    """Write the page, or compare it with the file; 0 done or equal, 1 out of date, 2 wrong arguments."""
    if words not in ([], ["check=true"]):
        print(f"error: {' '.join(words)}: the only word is check=true.", file=sys.stderr)
        return 2
    text = page()
    if words:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PAGE.name} is out of date: run python scripts/settings.py.", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"written: docs/{PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
