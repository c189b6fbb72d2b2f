"""Runs whose parts are of packages of others, through the real commands."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import lacuna
from lacuna import plugins
from lacuna.errors import LacunaError
from lacuna.runs.folder import RunFolder
from lacuna.runs.outside import check_unchanged
from lacuna.runs.resolve import resolve
from lacuna.verbs import train as train_verb
from lacuna.verbs.command import verb
from tests.own_package import FAMILIES, ROW_MEAN, searched, write
from tests.runs.mistakes import sentence
from tests.runs.real import TINY, config, recipe, train

IMPUTE = ("task=impute", "imputer=mean", "imputer.donors=null", "features=none", "mask=square", *TINY)
OWN = ("plugins=[own_parts]", "imputer.type=own_parts.families.Mean")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write(folder, "own_parts", {"families": FAMILIES, "imputers": ROW_MEAN}, version="0.1")
    return folder


@pytest.fixture(scope="module")
def output(tmp_path_factory, digits_root, site) -> Path:
    """A finished run of a package of one's own, and the same with lacuna's class."""
    folder = tmp_path_factory.mktemp("outputs")
    with searched(site):
        for words in (OWN, ()):
            assert train(*IMPUTE, *words, f"data.root={digits_root}", f"output={folder}") == 0
    return folder


@pytest.fixture
def there(site):
    with searched(site):
        yield


def run_of(output: Path, *, own: bool) -> RunFolder:
    runs = [RunFolder(path.parent) for path in output.glob("runs/*/recipe.json")]
    return next(run for run in runs if ("plugins" in run.recipe.config) == own)


def test_a_class_that_changes_nothing_gives_the_same_numbers_under_another_identity(output, there):
    own, lacunas = run_of(output, own=True), run_of(output, own=False)
    assert own.metrics["metrics"] == lacunas.metrics["metrics"]
    assert own.recipe.identity != lacunas.recipe.identity
    assert own.recipe.config["plugins"] == {"own_parts": {"version": "0.1", **plugins.describe("own_parts")}}


# words that put a class of the package in place of lacuna's own
FAMILY = {
    "mask": ("mask.type=own_parts.families.Square",),
    "data": ("data.type=own_parts.families.Digits",),
    "stem": ("stem.type=own_parts.families.ImputeStem",),
    "net": ("net.type=own_parts.families.Classifier",),
    "task": ("task.type=own_parts.families.TrainClassifier",),
    "stem's imputer": ("stem=mean", "stem.imputer.type=own_parts.families.Mean"),
    "density": ("task=density", "density.type=own_parts.families.DMFA"),
    "flow": ("task=flow", "flow.type=own_parts.families.ACFlow"),
}


@pytest.mark.parametrize("family", FAMILY)
def test_every_family_takes_classes_from_outside(family, tmp_path, digits_root, there):
    """A subclass that changes nothing, so that its numbers must be those of lacuna's own class."""
    every = (*TINY, "experiment=digits_zero", "budget=smoke", f"data.root={digits_root}", f"output={tmp_path}")
    choices = [word for word in FAMILY[family] if "own_parts" not in word]
    assert train(*every, *choices) == 0
    assert train(*every, *FAMILY[family], "plugins=[own_parts]") == 0
    own, lacunas = run_of(tmp_path, own=True), run_of(tmp_path, own=False)
    assert own.metrics["metrics"] == lacunas.metrics["metrics"]
    if family == "data":  # prepared by this code, not by another
        assert (digits_root / "prepared" / f"digits-{own.recipe.config['plugins']['own_parts']['hash']}").is_dir()
    with pytest.raises(LacunaError, match=r"lacuna\.load\(\.\.\., plugins=\['own_parts'\]\) imports it"):
        lacuna.load(own.path)
    lacuna.load(own.path, plugins=["own_parts"])


def test_a_feature_net_from_outside_judges_images(tmp_path, digits_root, there):
    words = [word for word in IMPUTE if not word.startswith("features")]
    composed = config(*words, "features=none", f"data.root={digits_root}", f"output={tmp_path}", "plugins=[own_parts]")
    composed["features"] = {"name": "halves", "type": "own_parts.families.Halves"}
    assert train_verb.main(composed) == 0
    (run,) = tmp_path.glob("runs/*")
    metrics = RunFolder(run).metrics
    assert metrics["metrics"]["test/fid"] > 0 and "halves" in json.dumps(metrics["protocols"])


@pytest.mark.slow
def test_every_rank_imports_the_package(tmp_path, digits_root, there):
    every = (*TINY, "experiment=digits_zero", "budget=smoke", f"data.root={digits_root}", f"output={tmp_path}")
    every = (*every, "trainer.devices=2")
    assert train(*every) == 0
    assert train(*every, *FAMILY["net"], "plugins=[own_parts]") == 0
    assert run_of(tmp_path, own=True).metrics["metrics"] == run_of(tmp_path, own=False).metrics["metrics"]


def test_only_what_is_used_is_recorded_where_it_is_used(digits_root, there):
    words = (f"data.root={digits_root}", "plugins=[own_parts]")
    plain = recipe("experiment=digits_misconv", *words)
    assert "plugins" not in plain.config and plain == recipe("experiment=digits_misconv", words[0])
    other = recipe("experiment=digits_misconv", "density.type=own_parts.families.DMFA", *words)
    assert "plugins" not in other.config and set(other.prerequisites["density"].config["plugins"]) == {"own_parts"}
    assert other.identity != plain.identity and other.with_seed(3).prerequisites["density"].config["plugins"]


def test_other_code_is_another_run(tmp_path, digits_root):
    package = write(tmp_path, "own_edited", {"imputers": ROW_MEAN})
    words = (*IMPUTE, f"data.root={digits_root}", "plugins=[own_edited]", "imputer.type=own_edited.imputers.RowMean")
    with searched(tmp_path):
        before = recipe(*words)
        assert before == recipe(*words)
        check_unchanged(before)
        (package / "imputers.py").write_text(ROW_MEAN + "\n# edited\n")
        assert recipe(*words).identity != before.identity
        with pytest.raises(LacunaError, match=r"planned with own_edited without version \(hash \w{12}\), and own_edit"):
            check_unchanged(before)


def test_target_is_another_word_for_type(digits_root, there):
    composed = config(*IMPUTE, *OWN)
    renamed = {**composed, "imputer": {**composed["imputer"], "_target_": composed["imputer"]["type"]}}
    del renamed["imputer"]["type"]
    assert resolve(renamed, "0123456789ab") == resolve(composed, "0123456789ab")


def test_a_package_that_was_not_named_is_refused_before_anything_is_written(tmp_path, digits_root, there, capsys):
    words = (*IMPUTE, "imputer.type=own_parts.families.Mean", f"data.root={digits_root}", f"output={tmp_path}/out")
    code = train(*words)
    said = sentence(code, capsys.readouterr().err, 2)
    assert said.endswith("is of the package own_parts, which was not named: add plugins=[own_parts].")
    assert not (tmp_path / "out").exists() and "own_parts" not in sys.modules


# ---------------------------------------------------------------------------------------------- stored runs


def test_reading_a_run_imports_nothing(output, there, digits_root):
    path = run_of(output, own=True).path
    assert {run.recipe.identity for run in map(RunFolder, output.glob("runs/*"))} <= {*lacuna.results(output).identity}
    with pytest.raises(LacunaError, match=rf"{path.name} uses own_parts\.families\.Mean of the package own_parts"):
        lacuna.load(path)
    assert "own_parts" not in sys.modules
    model = lacuna.load(path, plugins=["own_parts"])
    assert type(model).__module__ == "own_parts.families" and "own_parts" in sys.modules


@pytest.mark.parametrize("name", ["os.path.join", "subprocess.Popen", "antigravity.x.Y", "lacuna.files.replacing"])
def test_a_recipe_that_was_edited_by_hand_permits_nothing(name, output, tmp_path, there):
    """Also not if it says that it used the package."""
    path = tmp_path / "run"
    shutil.copytree(run_of(output, own=True).path, path)
    stored = json.loads((path / "recipe.json").read_text())
    stored["imputer"]["type"], package = name, name.partition(".")[0]
    stored["plugins"] = {package: {"version": None, "hash": "0" * 12}}
    (path / "recipe.json").write_text(json.dumps(stored))
    with pytest.raises(LacunaError):
        lacuna.load(path)
    with pytest.raises(LacunaError):  # naming another package does not help
        lacuna.load(path, plugins=["own_parts"])
    assert "antigravity" not in sys.modules


def test_evaluate_and_impute_import_what_is_named(output, digits_root, there, tmp_path, capsys):
    path = run_of(output, own=True).path
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8))
    evaluate = verb("evaluate", "lacuna.verbs.evaluate:main"), [f"data.root={digits_root}", "trainer.accelerator=cpu"]
    impute = verb("impute", "lacuna.verbs.impute:main"), [f"input={tmp_path / 'images.npy'}", f"to={tmp_path / 'to'}"]
    for main, words in (evaluate, impute):
        capsys.readouterr()
        words = [*words, f"run={path}"]
        assert sentence(main(words), capsys.readouterr().err, 2).endswith("plugins=[own_parts] imports it.")
        assert main([*words, "plugins=[own_parts]"]) == 0
        assert "warning" not in capsys.readouterr().err


def test_other_code_than_the_recorded_one_is_told(output, site, tmp_path, capsys):
    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "site" / "own_parts" / "imputers.py").write_text("")
    path = run_of(output, own=True).path
    recorded = run_of(output, own=True).recipe.config["plugins"]["own_parts"]["hash"]
    with searched(tmp_path / "site"):
        lacuna.load(path, plugins=["own_parts"])
        here = plugins.describe("own_parts")["hash"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and f"(hash {recorded})" in line and f"own_parts 0.1 (hash {here})" in line
