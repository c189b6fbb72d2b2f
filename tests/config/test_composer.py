"""Many configurations quickly: the same as one by one, and never a stale one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from lacuna.config.compose import compose, split_overrides
from lacuna.config.composer import Composer
from lacuna.config.folders import Configs
from lacuna.config.paths import CONFIGS
from lacuna.config.training_options import with_training_options
from lacuna.errors import LacunaError


def test_values_on_a_base_are_what_hydra_would_compose() -> None:
    composer = Composer(CONFIGS, "train")
    choices, values = split_overrides(CONFIGS, ["net.training.lr=1e-2", "mask=noise", "mask.rate=0.5", "seed=3"])
    assert choices == ("mask=noise",) and values == {"net.training.lr": 0.01, "mask.rate": 0.5, "seed": 3}
    quick = composer.with_values(composer.base(["experiment=digits_zero", *choices]), values)
    slow = compose(
        CONFIGS, "train", ["experiment=digits_zero", "mask=noise", "mask.rate=0.5", "net.training.lr=1e-2", "seed=3"]
    )
    assert quick == slow


def test_the_base_is_not_changed_by_its_copies() -> None:
    composer = Composer(CONFIGS, "train")
    base = composer.base(["experiment=digits_zero"])
    before = compose(CONFIGS, "train", ["experiment=digits_zero"])
    composer.with_values(base, {"net.training.lr": 1.0, "net.training.epochs": 1, "data.validation": 3})
    assert base == before


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"net.training.learning": 1.0}, "there is no key 'net.training.learning'"),
        ({"net.training.epochs": 1.5}, "must be a whole number, such as"),
        ({"net.training": 3}, "must be set key by key"),
    ],
)
def test_mistakes_are_one_sentence(values: dict, words: str) -> None:
    composer = Composer(CONFIGS, "train")
    with pytest.raises(LacunaError, match=words):
        composer.with_values(composer.base([]), values, "table=x")


def test_what_was_composed_is_kept_until_a_config_changes(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(CONFIGS.main, configs)
    first = Composer(Configs.of(configs), "train", tmp_path / "cache")
    assert first.base(["experiment=digits_zero"])["net"]["training"]["epochs"] == 20
    first.save()
    kept = Composer(Configs.of(configs), "train", tmp_path / "cache")
    assert kept._composed == first._composed
    file = configs / "net" / "classifier_digits.yaml"
    file.write_text(file.read_text().replace("epochs: 20", "epochs: 200"))
    changed = Composer(Configs.of(configs), "train", tmp_path / "cache")
    assert changed.base(["experiment=digits_zero"])["net"]["training"]["epochs"] == 200
    changed.save()
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_damaged_cache_is_no_trouble(tmp_path: Path) -> None:
    first = Composer(CONFIGS, "train", tmp_path)
    first.base([])
    first.save()
    (file,) = tmp_path.iterdir()
    file.write_text("{half")
    assert Composer(CONFIGS, "train", tmp_path).base([]) == first.base([])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["experiment=digits_zero", "net.training.lr=1e-2", "seed=3", "net.training.lr=1e-3"],
        [
            "net.stages=[[4,1]]",
            "mask=noise",
            "mask.rate=0.5",
            "hydra.verbose=true",
            "logger=wandb",
            "logger.tags=[a,'b c']",
        ],
        ["data.root=${output}/sets", "output=there", "density.net.filters=[${seed},4]"],
    ],
)
def test_one_composition_is_what_hydra_makes_of_all_words(words: list[str]) -> None:
    with initialize_config_dir(str(CONFIGS.main), version_base="1.3"):
        choices = [word for word in words if "." not in word.partition("=")[0]]
        options = with_training_options(hydra_compose("train", choices))
        whole = OmegaConf.to_container(OmegaConf.merge(options, hydra_compose("train", words)), resolve=True)
    found = [compose(CONFIGS, "train", words) for _ in range(2)]
    assert found[0] == whole == found[1]
    found[0]["net"]["training"]["epochs"] = -1  # nobody else holds it
    assert compose(CONFIGS, "train", words) == whole


def test_one_composition_sees_a_config_that_changes(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(CONFIGS.main, configs)
    words = ["experiment=digits_zero", "seed=3"]
    assert compose(Configs.of(configs), "train", words)["net"]["training"]["epochs"] == 20
    file = configs / "net" / "classifier_digits.yaml"
    file.write_text(file.read_text().replace("epochs: 20", "epochs: 200"))
    assert compose(Configs.of(configs), "train", words)["net"]["training"]["epochs"] == 200
    assert compose(CONFIGS, "train", words)["net"]["training"]["epochs"] == 20
