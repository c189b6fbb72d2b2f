"""What a user of Hydra types: each option and setting does what Hydra does, or is refused in a sentence."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lacuna.config.compose import compose
from lacuna.config.folders import Configs
from lacuna.verbs.command import CRASHED, DONE, MISTAKE, verb
from tests.verbs.small_configs import write_configs

SEEN: list[tuple[dict[str, Any], str, str]] = []


def record(config: dict[str, Any]) -> None:
    SEEN.append((config, os.getcwd(), os.environ.get("A_VARIABLE", "")))


def crash(config: dict[str, Any]) -> None:
    raise RuntimeError("a bug")


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configs:
    """Configs whose mask and task are parts; the current folder is empty."""
    found = write_configs(tmp_path / "configs")
    (found / "mask" / "square.yaml").write_text("{name: square, type: masks.Square, fraction: 0.5}")
    empty = tmp_path / "here"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[record.__module__])
    return Configs.of(found)


def call(configs: Configs, *words: str, function: str = "record") -> int:
    SEEN.clear()
    return verb("train", f"{__name__}:{function}", configs)(list(words))


# ------------------------------------------------------------------ what is printed


def test_cfg_prints_what_hydra_composes(configs: Configs, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(configs, "--cfg", "job", "seed=4") == DONE
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["seed"] == 4 and printed["folder"] == "runs/${seed}" and "hydra" not in printed
    assert call(configs, "--cfg", "job", "--resolve", "seed=4") == DONE
    assert yaml.safe_load(capsys.readouterr().out) == compose(configs, "train", ["seed=4"])
    assert call(configs, "--cfg", "job", "--package", "mask", "mask=noise") == DONE
    assert capsys.readouterr().out == "# @package mask\nname: noise\nrate: 0.75\n"
    assert call(configs, "--cfg", "hydra", "hydra.verbose=true") == DONE
    settings = yaml.safe_load(capsys.readouterr().out)
    assert list(settings) == ["hydra"] and settings["hydra"]["verbose"] is True
    assert call(configs, "-c", "all") == DONE
    assert {"hydra", "seed"} <= yaml.safe_load(capsys.readouterr().out).keys()
    assert not SEEN


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--info", "searchpath"], "configs"),
        (["--info", "defaults", "mask=noise"], "mask/noise"),
        (["-i", "plugins"], "Installed Hydra Plugins"),
        (["--info", "seed=3"], "seed: 3"),
        (["--hydra-help"], "Hydra (1.3"),
        (["--version"], "Hydra 1.3"),
        (["--help"], "python train.py"),
        (["-sc", "install=bash"], "hydra_bash_completion"),
    ],
)
def test_information(configs: Configs, words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(configs, *words) == DONE
    assert text in capsys.readouterr().out
    assert not SEEN and not list(Path().iterdir())


def test_completion_knows_the_choices(
    configs: Configs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", "python train.py experiment=digits_m")
    monkeypatch.setenv("COMP_POINT", "35")
    assert call(configs, "-sc", "query=bash") == DONE
    assert "experiment=digits_misconv" in capsys.readouterr().out.split()


# ------------------------------------------------------------------ what a run obeys


def test_the_folder_of_a_run_is_hydras(configs: Configs) -> None:
    assert call(configs, "hydra.run.dir=there/${now:%Y}", "seed=3", "folder=${hydra:runtime.output_dir}/x") == DONE
    ((config, folder, _),) = SEEN
    (made,) = Path("there").iterdir()
    assert re.fullmatch(r"\d{4}", made.name)
    assert config["folder"] == f"{made.absolute()}/x" and Path(folder) == Path.cwd()
    stored = yaml.safe_load((made / ".hydra" / "config.yaml").read_text())
    assert stored["seed"] == 3
    assert yaml.safe_load((made / ".hydra" / "overrides.yaml").read_text())[0] == "seed=3"
    assert (made / "train.log").exists()


def test_the_current_folder_variables_and_logging_are_hydras(configs: Configs) -> None:
    before = os.getcwd()
    assert call(configs, "hydra.job.chdir=true", "hydra.run.dir=there", "+hydra.job.env_set.A_VARIABLE=hello") == DONE
    assert SEEN[0][1:] == (str(Path("there").absolute()), "hello")
    assert os.getcwd() == before and "A_VARIABLE" not in os.environ
    assert call(configs, "hydra.verbose=true") == DONE
    assert [path.name for path in Path().iterdir()] == ["there"]  # nothing that was not asked for
    assert call(configs, "hydra.output_subdir=.mine") == DONE
    assert (Path() / ".mine" / "config.yaml").exists()


def test_settings_in_a_config_file_count(configs: Configs) -> None:
    text = "# @package _global_\nhydra: {run: {dir: made}, mode: MULTIRUN, sweeper: {params: {seed: '1,2'}}}\n"
    (configs.main / "experiment" / "many.yaml").write_text(text.replace(", mode: MULTIRUN", ""))
    assert call(configs, "experiment=many", "seed=7") == DONE
    assert SEEN[0][0]["seed"] == 7 and (Path("made") / ".hydra").is_dir()
    (configs.main / "experiment" / "many.yaml").write_text(text.replace("run: {dir: made}, ", ""))
    (Path() / "train.py").write_text("import sys; print(sys.argv[1:]); open('ran.txt', 'a').write(sys.argv[2])")
    sys.argv[0], kept = "train.py", sys.argv[0]
    try:
        assert call(configs, "experiment=many") == DONE
    finally:
        sys.argv[0] = kept
    assert (Path() / "ran.txt").read_text() == "experiment=manyexperiment=many"


def test_crashes_and_mistakes_end_as_without_hydra(configs: Configs, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(configs, "hydra.run.dir=there", function="crash") == CRASHED
    assert "RuntimeError: a bug" in capsys.readouterr().err


def test_a_full_error_on_demand(
    configs: Configs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert call(configs, "sed=1") == MISTAKE
    err = capsys.readouterr().err
    assert "Traceback" in err and "ConfigAttributeError" in err and err.splitlines()[-1].startswith("error: ")


# ------------------------------------------------------------------ further configs


def test_configs_of_ones_own(configs: Configs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own"
    for name, text in {
        "mask/mine.yaml": "{name: mine, rate: 0.25}",
        "mask/noise.yaml": "{name: not used: the verb's own comes first}".replace(": t", " t"),
        "experiment/our_run.yaml": "# @package _global_\n# Our run.\ndefaults: [{override /mask: mine}]\nseed: 5\n",
        "short.yaml": "defaults: [train, _self_]\nseed: 11\nhydra: {searchpath: [file://FURTHER]}\n",
        "empty.yaml": "seed: 11\n",
    }.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text.replace("FURTHER", str(tmp_path / "further")))
    (tmp_path / "further" / "mask").mkdir(parents=True)
    (tmp_path / "further" / "mask" / "far.yaml").write_text("{name: far}")
    for words in (["--config-dir", str(own)], ["-cd", str(own)], [f"hydra.searchpath=[file://{own}]"]):
        assert call(configs, *words, "experiment=our_run") == DONE
        assert SEEN[0][0]["mask"] == {"name": "mine", "rate": 0.25} and SEEN[0][0]["seed"] == 5
    assert call(configs, "--config-dir", str(own), "mask=noise") == DONE
    assert SEEN[0][0]["mask"]["name"] == "noise"
    capsys.readouterr()
    assert call(configs, "--config-dir", str(own), "--help") == DONE
    assert "our_run" in capsys.readouterr().out
    assert call(configs, "--config-dir", str(own), "experiment=our_rum") == MISTAKE
    assert "did you mean 'our_run'?" in capsys.readouterr().err
    assert call(configs, "--config-dir", str(own), "--config-name", "short", "mask=far") == DONE
    assert SEEN[0][0]["seed"] == 11 and SEEN[0][0]["mask"]["name"] == "far"
    assert call(configs, "--config-dir", str(own), "--config-name", "empty") == MISTAKE
    assert "begin it with 'defaults: [train, _self_]'" in capsys.readouterr().err
    assert call(Configs.of(tmp_path / "nowhere"), "--config-path", str(configs.main), "seed=2") == DONE
    assert SEEN[0][0]["seed"] == 2


def test_configs_inside_of_a_package(configs: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "my_pictures"
    (package / "configs" / "mask").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('composing must import nothing')")
    (package / "configs" / "mask" / "stripes.yaml").write_text("{name: stripes}")
    (configs.main / "train.yaml").write_text((configs.main / "train.yaml").read_text() + "plugins: []\n")
    monkeypatch.syspath_prepend(package.parent)
    for word in ("plugins=[my_pictures]", "hydra.searchpath=[pkg://my_pictures.configs]"):
        assert call(configs, word, "mask=stripes") == DONE
        assert SEEN[0][0]["mask"] == {"name": "stripes"}


# ------------------------------------------------------------------ keys that are added


def test_keys_can_be_added_to_parts(configs: Configs) -> None:
    for words, expected in (
        (["++seed=3"], ("seed", 3)),
        (["+mask.angle=30"], ("mask", {"name": "square", "type": "masks.Square", "fraction": 0.5, "angle": 30})),
        (["++mask.fraction=0.1"], ("mask", {"name": "square", "type": "masks.Square", "fraction": 0.1})),
    ):
        assert call(configs, *words) == DONE
        assert SEEN[0][0][expected[0]] == expected[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["+seed=3"], "seed exists already, so write seed=3 or ++seed=3"),
        (["+foo=1"], "nothing reads the key foo; '+' adds an argument to a part"),
        (["++task.foo=1"], "nothing reads the key task.foo"),
        (["mask.angle=3"], "the keys of mask are name, type, fraction; +mask.angle=3 adds an argument"),
        (["+mask=noise"], "mask can be chosen already, so write it without '+'"),
        (["seed=interval(0,1)"], "add -m to run one job for each"),
        (["-m", "seed=interval(0,1)"], "-m runs values that are listed, as in seed=choice(a,b) or range(0,3)"),
        (["-m", "hydra.verbose=true,false", "seed=0"], "all jobs share the settings of Hydra: give one value."),
        (["-m", "hydra.run.dir=x", "seed=0"], "with -m write hydra.sweep.dir="),
        (["hydra.sweep.dir=x"], "hydra.sweep.dir=x is for the jobs of -m: add -m; one run has hydra.run.dir."),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib is for the jobs of -m: add -m."),
        (["hydra.launcher.partition=gpu"], "Hydra has no setting hydra.launcher.partition"),
        (["-m", "hydra/launcher=nothing"], "others are plugins of Hydra: pip install"),
        (["-m", "hydra.sweep.dir=x", "hydra.sweep.subdir=one", "seed=0,1"], "gives several jobs the folder"),
        (["hydra.nonsense=1"], "Hydra has no setting hydra.nonsense"),
        (["hydra.searchpath=[file:///nowhere/at/all]"], "the folder /nowhere/at/all does not exist"),
        (["hydra.searchpath=[pkg://no_such_package_xyz]"], "there is no package no_such_package_xyz"),
        (["--config-dir", "nowhere"], "does not exist"),
        (["--config-path", "nowhere"], "--config-path nowhere: there is no such folder."),
        (["--config-name", "nothing"], "There is no nothing.yaml in"),
        (["--config-dir"], "expected one argument"),
        (["--package", "mask"], "--package changes what --cfg prints: add --cfg job."),
        (["--experimental-rerun", "x"], "run the same command again instead"),
        (["--cfg", "job", "--info"], "exclude each other"),
    ],
)
def test_what_cannot_be_obeyed_is_a_sentence(
    configs: Configs, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(configs, *words) == MISTAKE
    err = capsys.readouterr().err
    assert sentence in err and err.startswith("error: ") and err.count("\n") == 1
    assert not SEEN and not list(Path().iterdir())
