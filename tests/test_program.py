"""How the program was started decides what is typed and what is started again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import lacuna
from lacuna import program
from lacuna.config.help import usage
from lacuna.config.paths import CONFIGS
from lacuna.verbs import cli

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("started", "typed", "command"),
    [
        ("/some/bin/lacuna", "lacuna sweep", ["/some/bin/lacuna", "sweep"]),
        ("/some/lacuna/__main__.py", "lacuna sweep", [sys.executable, "-m", "lacuna", "sweep"]),
        ("sweep.py", "python sweep.py", [sys.executable, "sweep.py"]),
        ("/repo/train.py", "python sweep.py", [sys.executable, "/repo/sweep.py"]),
        ("/own/my_search.py", "python sweep.py", [sys.executable, "/own/my_search.py"]),
        ("-c", "python sweep.py", [sys.executable, "-m", "lacuna", "sweep"]),
    ],
)
def test_the_way_it_was_started(started, typed, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started, "seed=1"])
    assert program.command_text("sweep") == typed
    assert program.this_command("sweep") == command


def test_scripts_where_there_is_a_checkout_only(monkeypatch):
    assert program.checkout() == ROOT
    monkeypatch.setattr(sys, "argv", ["reproduce.py"])
    for name in (*program.VERBS, *program.TOOLS):
        kind, script = program.words(name)
        assert kind == "python" and (ROOT / script).is_file()
    monkeypatch.setattr(program, "_CHECKOUT", Path(sys.prefix))
    assert program.checkout() is None and program.words("prepare") == ["lacuna", "prepare"]


def test_every_verb_is_listed_and_has_a_config(capsys):
    assert cli.main([]) == 0
    said = capsys.readouterr().out
    for name, about in program.VERBS.items():
        assert f"  {name}" in said and about in said
        assert "defaults" in yaml.safe_load((CONFIGS.main / f"{name}.yaml").read_text())
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"lacuna {lacuna.__version__}\n"


def test_the_arguments_go_to_the_verb(capsys, monkeypatch):
    assert cli.main(["train", "--help"]) == 0
    assert capsys.readouterr().out.rstrip() == usage("train", CONFIGS)
    assert cli.main(["train", "experiment=digits_nothing"]) == 2
    assert "digits_nothing" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["/some/bin/lacuna", "impute", "input=x"])
    assert cli.main() == 2
    assert "give a trained run, or lacuna impute imputer=linear input=" in capsys.readouterr().err
    assert cli.main(["prepare", "nothing"]) == 2
    assert "There is no data set 'nothing'" in capsys.readouterr().err


def test_an_unknown_verb_is_one_sentence(capsys):
    assert cli.main(["trian"]) == 2
    assert capsys.readouterr().err == "error: There is no verb 'trian': did you mean train?\n"
    assert cli.main(["seed=1"]) == 2
    assert "the verbs are train, evaluate, impute, reproduce, sweep" in capsys.readouterr().err


def test_help_as_a_module_is_quick():
    """Nothing heavy is imported for it, and it names the command as it was typed."""
    watch = "import sys, runpy; sys.argv = ['lacuna', *sys.argv[1:]]; runpy.run_module('lacuna', run_name='__main__')"
    heavy = "print({'torch', 'hydra', 'numpy'} & set(sys.modules))"
    code = f"import atexit, sys; atexit.register(lambda: {heavy}); {watch}"
    said = subprocess.run([sys.executable, "-c", code, "sweep", "--help"], capture_output=True, text=True, check=True)
    first, *lines, last = said.stdout.splitlines()
    assert first.startswith("usage: lacuna sweep [") and last == "set()"
    assert any(line.startswith("  lacuna sweep experiment=") for line in lines)
