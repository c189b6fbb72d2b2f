"""The demo: few and small enough runs for three minutes on two cores."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from lacuna.config.compose import compose
from lacuna.config.composer import Composer
from lacuna.config.paths import CONFIGS
from lacuna.tables.plan import plan_tables
from lacuna.tables.request import find_tables, run_options
from tests.runs.real import ROOT

EPOCHS = 12


def command() -> list[str]:
    """What `make demo` gives reproduce.py."""
    line = re.search(r"^demo:.*\n\t.*reproduce.py (.*) \$\(ARGS\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert line is not None
    return line.group(1).split()


def test_the_demo_of_the_makefile_is_35_short_classifiers_on_5_densities(digits_root: Path, tmp_path: Path) -> None:
    words = [*command(), f"data.root={digits_root}", "data.download=false", f"output={tmp_path}", "results=null"]
    config = compose(CONFIGS, "reproduce", words)
    tables = find_tables(config["table"], Composer(CONFIGS, "reproduce"))
    plan = plan_tables(tables, Composer(CONFIGS, "train"), run_options(config, prepare=False))
    recipes = [run.recipe for run in plan.runs.values()]
    assert Counter(recipe.task for recipe in recipes) == {"classify": 35, "density": 5}
    assert {recipe.config["seed"] for recipe in recipes} == {0, 1, 2, 3, 4}
    for recipe in recipes:
        if recipe.task == "classify":
            assert recipe.config["net"]["training"]["epochs"] == EPOCHS
        else:
            assert recipe.config["density"]["name"] == "smfa"  # EM takes seconds, a DMFA of digits a minute
