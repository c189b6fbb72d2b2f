"""The reference of config groups as Markdown, made from the files in configs/ alone.

python scripts/config_pages.py              print the names of the pages
python scripts/config_pages.py imputer      print one page

``scripts/docs_hooks.py`` adds these pages to the documentation site when it is built.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lacuna.config.folders import Configs
from lacuna.config.help import groups, heading
from lacuna.config.paths import CONFIGS

VERBS = ("train", "evaluate", "impute", "reproduce", "sweep")
ABOUT = {
    "experiment": "A named choice of all other groups: `python train.py experiment=NAME`.",
    "data": "Where complete or incomplete images come from.",
    "mask": "Which pixels of an image are missing.",
    "density": "p(missing pixels given observed ones), a mixture of factor analysers.",
    "flow": "ACFlow, a conditional normalising flow.",
    "imputer": "Methods that complete an image.",
    "stem": "How an incomplete image enters a convolutional network.",
    "net": "Networks: classifiers and auto-encoders.",
    "features": "The network in whose features images are compared (FID), and whose labels are compared (SCC).",
    "task": "What is trained and how it is judged; an experiment chooses it.",
    "budget": "How many images and epochs: `paper` is the printed setting.",
    "table": "Tables and figures: `python reproduce.py table=NAME`.",
    "search": "Search spaces: `python sweep.py search=NAME`.",
    "executor": "Where the runs of a table or sweep happen. No part of a run's identity.",
    "trainer": "Devices and speed. No part of a run's identity.",
    "logger": "Where the history of a run goes, beside its folder. No part of a run's identity.",
}
"""One line for each group."""


def config_pages(configs: Configs = CONFIGS) -> dict[str, str]:
    """Every page by config group, in Markdown."""
    return {group: group_page(configs, group) for group in groups(configs)}


def group_page(configs: Configs, group: str) -> str:
    """A group: its choices with their headings, then the keys of each with defaults and comments."""
    names = configs.options(group)
    lines = [f"# {group}", "", ABOUT.get(group, ""), "", "| choice | |", "|---|---|"]
    for name in names:
        lines.append(f"| [`{group}={name}`](#{anchor(name)}) | {_cell(heading(configs.file(f'{group}/{name}')))} |")
    for name in names:
        lines += ["", f"## {name} {{#{anchor(name)}}}", "", *_choice(configs.main / group / f"{name}.yaml")]
    pieces = sorted(path for path in (configs.main / group).rglob("_*.yaml"))
    if pieces:
        lines += ["", "## Shared pieces", "", "They stand under `defaults` of some choices and cannot be chosen."]
    for path in pieces:
        name = path.relative_to(configs.main / group).with_suffix("").as_posix()
        lines += ["", f"### {name} {{#{anchor(name)}}}", "", *_choice(path)]
    return "\n".join(lines) + "\n"


def commands_page(configs: Configs = CONFIGS) -> str:
    """Every verb: what it does and its own keys with defaults and comments."""
    lines = [
        "# Commands",
        "",
        "`python VERB.py --help` lists every choice. A key is set by `key=value`.",
    ]
    for verb in VERBS:
        lines += ["", f"## {verb}.py {{#{verb}}}", "", *_choice(configs.main / f"{verb}.yaml")]
    return "\n".join(lines) + "\n"


def anchor(name: str) -> str:
    """The id of a choice's heading."""
    return "choice-" + name.replace("/", "-")


def _choice(path: Path) -> list[str]:
    """The heading as text, the rest of the file as it is."""
    about = heading(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        lines.pop(0)
    text = " ".join(about).strip()
    return [*([_escaped(text), ""] if text else []), "```yaml", *lines, "```"]


def _cell(about: list[str]) -> str:
    return _escaped(" ".join(about).strip()).replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_") if "`" not in text else text


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 on success."""
    words = sys.argv[1:] if argv is None else argv
    print(group_page(CONFIGS, words[0]) if words else "\n".join(groups(CONFIGS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
