"""Packages of others: who may import them, and what is recorded of them."""

from __future__ import annotations

import shutil
import sys
import threading

import pytest

from lacuna import plugins, registry
from lacuna.errors import LacunaError
from lacuna.imputers.simple import Zero
from tests.own_package import ROW_MEAN, searched, write

TYPE = "{}.imputers.RowMean"


@pytest.fixture
def site(tmp_path):
    with searched(tmp_path):
        yield tmp_path


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("linear.Linear", None),
        ("os.system", None),
        ("my_package.imputers.RowMean", "my_package"),
        ("os.path.join", "os"),
        ("timm.resnet18", "timm"),
        ("torchvision.models.resnet18", "torchvision"),
    ],
)
def test_three_names_are_a_class_from_outside(name, package):
    assert plugins.package_of(name) == package


def test_a_package_that_was_not_named_is_never_imported(site):
    write(site, "own_secret", {"imputers": ROW_MEAN}).joinpath("__init__.py").write_text("raise SystemExit('ran')")
    with pytest.raises(LacunaError, match=r"of the package own_secret, .* add plugins=\[own_secret\]\.$"):
        registry.build("imputer", {"type": TYPE.format("own_secret")})
    with plugins.permit(["own_secret"]):  # found, hashed and recorded, all without running it
        assert plugins.record({"imputer": {"type": TYPE.format("own_secret")}})["own_secret"]["hash"]
        assert "own_secret" not in sys.modules
        with pytest.raises(SystemExit, match="ran"):
            registry.build("imputer", {"type": TYPE.format("own_secret")})
    with pytest.raises(LacunaError, match="not named"):
        plugins.record({"imputer": {"type": TYPE.format("own_secret")}})


def test_what_is_named_is_built_as_lacunas_own(site):
    write(site, "own_named", {"imputers": ROW_MEAN})
    with plugins.permit(["own_named"]):
        for key in ("type", "_target_"):
            made = registry.build("imputer", {key: TYPE.format("own_named"), "factor": 0.5}, offer={"shape": (1, 8, 8)})
            assert type(made).__module__ == "own_named.imputers" and made.factor == 0.5
        with pytest.raises(LacunaError, match=r"imputer \(own_named.imputers.RowMean\): .*'colour'"):
            registry.build("imputer", {"type": TYPE.format("own_named"), "colour": 1})
        with pytest.raises(LacunaError, match=r"both type=zero\.Zero and _target_=simple\.Zero"):
            registry.build("imputer", {"type": "zero.Zero", "_target_": "simple.Zero"})
    assert type(registry.build("imputer", {"_target_": "simple.Zero"})) is Zero


@pytest.mark.parametrize(
    ("family", "name", "sentence"),
    [
        ("stem", "own_wrong.imputers.RowMean", r"is no stem: it must be a subclass of lacuna\.layers\.stem\.Stem"),
        ("imputer", "own_wrong.imputers.Popen", "own_wrong.imputers defines no class Popen"),
        ("imputer", "own_wrong.imputers.helper", "defines no class helper"),
        ("imputer", "own_wrong.nothing.RowMean", "there is no module own_wrong.nothing"),
        ("imputer", "own_wrong._hidden.RowMean", "not of the form module.Class or package.module.Class"),
        ("executor", "own_wrong.imputers.RowMean", "executor takes lacuna's own types only"),
        ("imputer", "lacuna.imputers.simple.Zero", "lacuna's own types are of the form module.Class"),
        ("imputer", "subprocess.Popen", r"there is no module lacuna\.imputers\.subprocess"),
        ("imputer", "os.path.join", r"of the package os, which was not named"),
    ],
)
def test_what_is_no_part_is_refused_in_a_sentence(site, family, name, sentence):
    extra = "\nfrom subprocess import Popen\ndef helper(): ...\n"
    write(site, "own_wrong", {"imputers": ROW_MEAN + extra})
    with plugins.permit(["own_wrong"]), pytest.raises(LacunaError, match=sentence):
        registry.build(family, {"type": name})


def test_a_mistake_inside_the_package_is_a_traceback(site):
    write(site, "own_broken", {"imputers": "import a_package_that_it_needs"})
    with plugins.permit(["own_broken"]), pytest.raises(ModuleNotFoundError, match="a_package_that_it_needs"):
        registry.build("imputer", {"type": TYPE.format("own_broken")})


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("my_package", r"plugins=my_package must be a list of packages"),
        ([3], "must be a list of packages"),
        (["lacuna"], "lacuna's own parts need no plugins"),
        (["my_package.imputers"], r"name the package, plugins=\[my_package\]"),
        (["own_nowhere"], "There is no package own_nowhere: install it, or add the folder .* PYTHONPATH"),
    ],
)
def test_what_plugins_takes(value, sentence):
    with pytest.raises(LacunaError, match=sentence), plugins.permit(value):
        pass


def test_permissions_end_with_their_block_and_are_of_one_thread(site):
    for name in ("own_a", "own_b"):
        write(site, name, {})
    seen = []
    with plugins.permit(["own_a"]):
        with pytest.raises(ZeroDivisionError), plugins.permit(["own_b"]):
            assert plugins.permitted("own_a") and plugins.permitted("own_b")
            thread = threading.Thread(target=lambda: seen.append(plugins.permitted("own_a")))
            thread.start()
            thread.join()
            raise ZeroDivisionError
        assert plugins.permitted("own_a") and not plugins.permitted("own_b")
    assert not plugins.permitted("own_a") and seen == [False]


def test_the_hash_is_of_all_sources_wherever_they_lie(site, tmp_path_factory):
    package = write(site, "own_hashed", {"imputers": ROW_MEAN, "other": ""})
    about = plugins.describe("own_hashed")
    assert about["version"] is None and len(about["hash"]) == plugins.DIGITS
    elsewhere = tmp_path_factory.mktemp("copy")
    shutil.copytree(package, elsewhere / "own_hashed")
    (elsewhere / "own_hashed" / "notes.txt").write_text("no source")
    sys.path.insert(0, str(elsewhere))
    try:
        assert plugins.describe("own_hashed") == about
    finally:
        sys.path.remove(str(elsewhere))
    hashes = {about["hash"]}
    (package / "other.py").write_text("x = 1\n")
    hashes.add(plugins.describe("own_hashed")["hash"])
    (package / "sub").mkdir()
    (package / "sub" / "more.py").write_text("")
    hashes.add(plugins.describe("own_hashed")["hash"])
    (package / "other.py").write_text("x = 2\n")  # of the same size
    hashes.add(plugins.describe("own_hashed")["hash"])
    (package / "other.py").rename(package / "others.py")
    hashes.add(plugins.describe("own_hashed")["hash"])
    assert len(hashes) == 5


def test_a_single_module_is_a_package_too(site):
    (site / "own_module.py").write_text(ROW_MEAN)
    with plugins.permit(["own_module"]), pytest.raises(LacunaError, match=r"there is no module own_module\.imputers"):
        registry.build("imputer", {"type": TYPE.format("own_module")})
    assert len(plugins.describe("own_module")["hash"]) == plugins.DIGITS


def test_an_installed_distribution_has_a_version_and_may_announce_its_package(site):
    write(site, "own_installed", {"imputers": ROW_MEAN}, version="1.2", announced=True)
    plugins.announced_packages.cache_clear()
    assert plugins.describe("own_installed")["version"] == "1.2"
    with plugins.permit([], announced=True):
        assert registry.find("imputer", TYPE.format("own_installed")).__name__ == "RowMean"
    with plugins.permit([]), pytest.raises(LacunaError, match="not named"):  # to load a stored run it must be named
        registry.find("imputer", TYPE.format("own_installed"))


def test_of_torchvision_only_the_version_is_recorded_whatever_it_was_built_for():
    import torchvision

    assert plugins.describe("torchvision") == {"version": torchvision.__version__.partition("+")[0]}


def test_packages_are_found_at_any_depth_but_not_in_prerequisites():
    config = {
        "imputer": {"type": "simple.Zero", "initial": {"type": "a_b.c.D"}},
        "mask": {"schemes": [{"type": "e_f.g.H"}, {"type": "masks.Square"}]},
        "prerequisites": {"density": {"density": {"type": "i_j.k.L"}}},
    }
    assert dict(plugins.outside_types(config)) == {"a_b": "a_b.c.D", "e_f": "e_f.g.H"}
