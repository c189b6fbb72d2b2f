"""The command line: one sentence for a mistake, no traceback, no torch before a job starts, no folders of Hydra's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lacuna.config import compose as composing
from lacuna.config.folders import Configs
from lacuna.config.help import examples, usage
from lacuna.config.jobs import jobs
from lacuna.config.paths import CONFIGS
from lacuna.errors import LacunaError
from lacuna.verbs.command import CRASHED, DONE, INTERRUPTED, MISTAKE, verb
from lacuna.verbs.job import Command
from tests.verbs.small_configs import write_configs

SEEN: list[dict[str, Any]] = []


def record(config: dict[str, Any]) -> None:
    SEEN.append(config)


def mistake(config: dict[str, Any]) -> None:
    raise LacunaError("data/x.npz is damaged: run python scripts/prepare.py x.")


def crash(config: dict[str, Any]) -> None:
    raise RuntimeError("a bug")


def interrupt(config: dict[str, Any]) -> None:
    raise KeyboardInterrupt


def interrupt_as_lightning_does(config: dict[str, Any]) -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


@pytest.fixture
def configs(tmp_path: Path) -> Configs:
    return Configs.of(write_configs(tmp_path / "configs"))


def call(configs: Configs, *words: str, function: str = "record") -> int:
    SEEN.clear()
    return verb("train", f"{__name__}:{function}", configs)(list(words))


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[record.__module__])


def test_the_function_gets_a_resolved_plain_dict(configs: Configs) -> None:
    assert call(configs, "experiment=digits_misconv", "seed=3", "task.lr=0.1") == DONE
    (config,) = SEEN
    assert type(config) is dict and type(config["task"]) is dict and type(config["task"]["milestones"]) is list
    assert config["folder"] == "runs/3"
    assert config["mask"] == {"name": "noise", "rate": 0.75}
    assert config["task"]["epochs"] == 9
    assert config["task"]["lr"] == 0.1
    assert "hydra" not in config


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["experiment=digits_miscon"], "There is no experiment 'digits_miscon'; did you mean 'digits_misconv'"),
        (["experiment=nothing_like_it"], "The choices are: digits_misconv, digits_zero."),
        (["mask=circle"], "There is no mask 'circle'. The choices are: noise, square."),
        (["sed=1"], "Unknown key 'sed'; did you mean 'seed'?"),
        (["experimnt=digits_zero"], "Unknown key 'experimnt'; did you mean 'experiment'?"),
        (["lr=1"], "Unknown key 'lr'; did you mean 'task.lr'?"),
        (["mask.rate=0.5"], "Unknown key 'mask.rate': the keys of mask are name, fraction."),
        (["task.learning=3"], "Unknown key 'task.learning': the keys of task are lr, epochs, optimizer, milestones."),
        (["seed.x=3"], "Unknown key 'seed.x'"),
        (["+seeds=3"], "nothing reads the key seeds"),
        (["seed"], "'seed' is not of the form key=value"),
        (["seed=abc"], "seed must be a whole number, such as 0"),
        (["seed="], "seed must be a whole number"),
        (["task.epochs=2.5"], "task.epochs must be a whole number, such as 3"),
        (["task.lr=fast"], "task.lr must be a number, such as 0.001"),
        (["compile=1"], "compile must be true or false, such as false"),
        (["task.milestones=3"], "task.milestones must be a list, such as [1,2]"),
        (["task.optimizer=[1]"], "task.optimizer must be one word or text, such as adam"),
        (["task=3"], "task must be set key by key"),
        (["seed=1,2"], "add -m to run one job for each, or write seed=[...]"),
        (["owner=[a"], "cannot be read"),
        (["owner=???"], "owner has no value: give it one with owner=..."),
        (["owner=${nobody}"], "owner cannot be resolved"),
        (["mask=null"], "mask=null: choose one of noise, square."),
        (["mask=[noise,square]"], "mask takes one name, such as noise"),
        (["imputer=zero"], "imputer=zero: train.py takes no imputer; its groups are experiment=, mask=."),
        (["~mask"], "~mask: no key can be left out"),
        (["--frobnicate"], "Unknown option '--frobnicate'"),
    ],
)
def test_a_mistake_is_one_sentence(
    configs: Configs, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(configs, *words) == MISTAKE
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert not SEEN


@pytest.mark.parametrize(
    "word", ["limit=3", "task.lr=1", "owner=7", "owner=null", "task.milestones=[]", "mask=noise", "experiment=null"]
)
def test_what_is_right_is_not_refused(configs: Configs, word: str) -> None:
    assert call(configs, word) == DONE


def test_a_config_that_is_wrong_in_itself(configs: Configs, capsys: pytest.CaptureFixture[str]) -> None:
    (configs.main / "experiment" / "broken.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /mask: oval\n"
    )
    assert call(configs, "experiment=broken") == MISTAKE
    assert "There is no mask 'oval'" in capsys.readouterr().err
    (configs.main / "experiment" / "broken.yaml").write_text("# @package _global_\na: [\n")
    assert call(configs, "experiment=broken") == MISTAKE
    assert "broken.yaml" in capsys.readouterr().err
    assert verb("evaluate", f"{__name__}:record", configs)([]) == MISTAKE
    assert "There is no evaluate.yaml in" in capsys.readouterr().err


def test_what_the_function_raises(configs: Configs, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(configs, function="mistake") == MISTAKE
    assert capsys.readouterr().err == "error: data/x.npz is damaged: run python scripts/prepare.py x.\n"
    for function in ("interrupt", "interrupt_as_lightning_does"):
        assert call(configs, function=function) == INTERRUPTED
        assert capsys.readouterr().err.startswith("interrupted")
    with pytest.raises(RuntimeError, match="a bug"):
        call(configs, function="crash")


def test_cfg_prints_the_config_and_stops(configs: Configs, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(configs, "--cfg", "seed=5") == DONE
    out = capsys.readouterr().out
    assert out.startswith("seed: 5\n")
    assert "folder: runs/5" in out
    assert not SEEN


def test_help_names_everything_one_can_choose(configs: Configs) -> None:
    text = usage("train", configs)
    for part in (
        "Train a part from incomplete images.",
        "digits_misconv  MisConv on the digits: the quickest experiment.",
        "mask=\n  noise  square",
        "python train.py -m experiment=digits_misconv seed=0,1,2",
    ):
        assert part in text
    assert "@package" not in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["mask.rate=0.3"], "mask.rate=0.3: choose a mask first, for instance mask=noise mask.rate=0.3."),
        (["mask.size=3"], "Unknown key mask.size: no mask has it; the choices are noise, square."),
        (["imputer=zero"], "judge.py takes no imputer; its groups are mask=."),
    ],
)
def test_a_group_of_which_nothing_is_chosen(
    configs: Configs, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = verb("judge", f"{__name__}:record", configs)
    assert judge(words) == MISTAKE
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1
    assert judge(["mask=noise", *words[:1]]) == (DONE if "rate" in words[0] else MISTAKE)


def test_help_shows_what_the_verb_takes_only(configs: Configs) -> None:
    assert "imputer" not in usage("train", configs)
    text = usage("judge", configs)
    assert "mask=" in text
    assert "experiment" not in text and "imputer" not in text


@pytest.mark.parametrize("name", ["train", "evaluate", "impute"])
def test_the_examples_of_the_real_help_can_be_typed(name: str) -> None:
    for line in examples(name, CONFIGS):
        python, script, *words = line.split()
        assert (python, script) == ("python", f"{name}.py")
        values = [word for word in words if not word.startswith("-")]
        for job in jobs(CONFIGS, name, values).overrides:
            assert composing.compose(CONFIGS, name, job)
    text = usage(name, CONFIGS)
    assert ("experiment=" in text) == ("density=" in text) == ("net=" in text) == (name == "train")
    assert ("imputer=" in text) == (name in ("train", "impute"))


def test_long_descriptions_are_cut_and_stay_in_their_column(configs: Configs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    (configs.main / "experiment" / "a.yaml").write_text("# @package _global_\n# " + "Many words. " * 10 + "\n")
    (line,) = [line for line in usage("train", configs).splitlines() if line.startswith("  a ")]
    assert line.index("Many") == 2 + len("digits_misconv") + 2
    assert line.endswith(" ...") and len(line) <= 50


def pipe_is_closed(config: dict[str, Any]) -> None:
    raise BrokenPipeError


def test_a_reader_who_has_seen_enough(configs: Configs, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(configs, function="pipe_is_closed") == CRASHED
    assert capfd.readouterr().err == ""


def test_what_stands_behind_two_dashes_is_for_the_runs(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(Command, "call", lambda _, config, *words: seen.append(config["overrides"]) or 0)
    assert verb("reproduce", "x:y")(["table=demo", "--", "stem.formula=paper", "mask=noise"]) == 0
    assert verb("reproduce", "x:y")(["table=demo"]) == 0
    assert seen == [["stem.formula=paper", "mask=noise"], []]
    assert verb("train", "x:y")(["seed=1", "--", "stem.formula=paper"]) == 2
    assert "train takes nothing behind '--'" in capsys.readouterr().err
