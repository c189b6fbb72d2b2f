"""The sweeps for Weights & Biases: its agent builds command lines that ``train.py`` accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from lacuna.config.compose import compose
from lacuna.config.composer import Composer
from lacuna.config.help import groups
from lacuna.config.paths import CONFIGS
from lacuna.search.pruner import REDUCTION, Rule
from tests.runs.real import ROOT

FILES = sorted((ROOT / "scripts" / "sweeps_wandb").glob("*.yaml"))


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def ends(spec: dict[str, Any]) -> tuple[Any, Any]:
    return (spec["values"][0], spec["values"][-1]) if "values" in spec else (spec["min"], spec["max"])


def test_there_is_one_for_every_search_and_none_is_a_config_group() -> None:
    assert {path.stem for path in FILES} == {path.stem for path in (CONFIGS.main / "search").glob("*.yaml")}
    assert "wandb" not in groups(CONFIGS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_agents_command_is_accepted(path: Path) -> None:
    sweep = read(path)
    assert (ROOT / sweep["program"]).is_file()
    for end in (0, 1):
        args = {"args": {key: {"value": ends(spec)[end]} for key, spec in sweep["parameters"].items()}}
        filled = {"env": [], "interpreter": ["python"], "program": [sweep["program"]]}
        filled |= {"args_no_hyphens": create_sweep_command_args(args)["args_no_hyphens"]}
        words: list[str] = []
        for word in create_sweep_command(list(sweep["command"])):
            words += filled[word[2:-1]] if word.startswith("${") else [word]
        assert words[:2] == ["python", "train.py"]
        config = compose(CONFIGS, "train", words[2:])
        assert config["logger"]["name"] == "wandb"
        # one group a sweep, and the tags that sweep.py gives its runs
        assert (config["logger"]["group"], config["logger"]["tags"]) == (sweep["name"], ["sweep", path.stem])
        for key, value in args["args"].items():
            assert Composer.has(config, key)
            found: Any = config
            for part in key.split("."):
                found = found[part]
            assert found == value["value"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_bad_trials_end_early_by_the_rule_of_sweep_py(path: Path) -> None:
    """The same rungs as ``search.pruner=hyperband search.pruner_epochs=3``, in the keys that W&B documents."""
    sweep = read(path)
    assert sweep["early_terminate"] == {"type": "hyperband", "min_iter": 3, "eta": REDUCTION}
    search = yaml.safe_load((CONFIGS.main / "search" / path.name).read_text())
    assert Rule.of(search) is None
    assert Rule.of({**search, "pruner": "hyperband", "pruner_epochs": 3}) is not None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_searches_what_sweep_py_searches(path: Path) -> None:
    theirs, ours = read(path), yaml.safe_load((CONFIGS.main / "search" / path.name).read_text())
    assert theirs["metric"] == {"name": ours["metric"], "goal": ours["direction"]}
    assert theirs["parameters"].keys() == ours["parameters"].keys()
    for key, spec in ours["parameters"].items():
        assert ends(theirs["parameters"][key]) == (spec["low"], spec["high"])
    # what a trial would be judged by there is what a run logs: tests/verbs/test_sweep.py
