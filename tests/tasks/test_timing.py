"""A run that measures: its passes, its files, and that it needs neither data nor training."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from torch.nn import functional

from lacuna.errors import LacunaError
from lacuna.runs.environment import hardware
from lacuna.runs.folder import RunFolder
from lacuna.runs.prepare import prepare_data
from lacuna.tables.plan import DONE, TODO
from lacuna.tasks.timing import WARM_UP, Timing
from lacuna.training.loading import load
from lacuna.verbs.command import verb
from tests.runs.real import config, recipe, train
from tests.tables.planning import plan, spec
from tests.tasks.timings import SMALL, made

CPU = torch.device("cpu")


def timing(*words: str) -> Timing:
    return Timing(made("budget=smoke", *words).config, CPU)


# ---------------------------------------------------------------------- what is timed


@pytest.mark.parametrize(
    "words",
    [(), ("timing.channels=3", "timing.components=2", "timing.factors=0"), ("timing.kernel=5", "timing.padding=2")],
)
def test_both_layers_agree_where_nothing_is_missing(words: tuple[str, ...]) -> None:
    """Where a window has no missing pixel, MisConv is the convolution; elsewhere it differs; it is never negative."""
    torch.manual_seed(0)
    measurement = timing(*words)
    kernel, padding = measurement.spec["kernel"], measurement.spec["padding"]
    _, mask, _ = measurement._inputs()
    passes = measurement.passes()
    with torch.no_grad():
        conv, misconv = passes["conv"](), passes["misconv"]()
    assert conv.shape == misconv.shape == (3, 32, 12, 12)
    observed = -functional.max_pool2d(-mask.float(), kernel, stride=1, padding=padding)  # padding counts as observed
    whole = (observed == 1).expand_as(conv)
    assert 0.1 < whole.float().mean() < 0.9
    torch.testing.assert_close(misconv[whole], conv[whole], rtol=0, atol=1e-5)
    assert (misconv - conv)[~whole].abs().max() > 1e-2 and misconv.min() >= 0


def test_the_missing_square_has_the_given_side() -> None:
    image, mask, density = timing("timing.channels=3")._inputs()
    assert ((~mask).sum((1, 2, 3)) == 25).all()
    assert mask.any(1).any(1).shape == (3, 12) and ((~mask).any(1).any(1).sum(1) == 5).all()
    assert (image[~mask.expand_as(image)] == 0).all()
    assert density.rank == 4 and density.components == 1 and (density.noise > 0).all()


@pytest.mark.slow
def test_the_compiled_layer_is_the_same_layer() -> None:
    torch.manual_seed(0)
    measurement = Timing(made("budget=quick").config, CPU)
    passes = measurement.passes()
    assert list(passes) == ["conv", "misconv", "misconv_compiled"]
    with torch.no_grad():
        torch.testing.assert_close(passes["misconv_compiled"](), passes["misconv"](), rtol=0, atol=1e-5)


# ---------------------------------------------------------------------- what is written down


class Sleeping(Timing):
    """Layers that take a given time."""

    seconds: ClassVar = {"conv": 0.002, "misconv": 0.006}

    def passes(self) -> dict[str, Any]:
        self.log: list[str] = []

        def one(name: str) -> Any:
            def one_pass() -> torch.Tensor:
                self.log.append(name)
                assert not torch.is_grad_enabled()
                assert torch.get_num_threads() == self.spec["threads"]
                time.sleep(self.seconds[name])
                return torch.zeros(())

            return one_pass

        return {name: one(name) for name in self.seconds}


def test_every_pass_is_timed_in_turn_and_kept(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    measurement = Sleeping(made("timing.repeats=7", f"timing.threads={before + 1}").config, CPU)
    found = measurement.measure(tmp_path)
    assert torch.get_num_threads() == before and torch.is_grad_enabled()
    assert measurement.log == WARM_UP * ["conv"] + WARM_UP * ["misconv"] + 7 * ["conv", "misconv"]
    times = json.loads((tmp_path / "times.json").read_text())
    assert times == measurement.times and {len(values) for values in times.values()} == {7}
    for name, values in times.items():
        assert min(values) >= Sleeping.seconds[name], "a sleep is never shorter than asked for"
        assert found[f"{name}_best"] == min(values)
        assert found[f"{name}_seconds"] == sorted(values)[3]
        assert found[f"{name}_mean"] == pytest.approx(sum(values) / 7)
        assert found[f"{name}_sd"] == pytest.approx(statistics.stdev(values))
    assert found["ratio"] == found["misconv_seconds"] / found["conv_seconds"]
    assert found["ratio_best"] == min(times["misconv"]) / min(times["conv"])
    pictures = measurement.draw(tmp_path / "pictures")
    with Image.open(pictures["times"]) as picture:
        assert picture.format == "PNG" and min(picture.size) > 200


def test_other_work_does_not_count_on_one_thread(tmp_path: Path) -> None:
    found = Sleeping(made("timing.repeats=5").config, CPU).measure(tmp_path)
    for name, slept in Sleeping.seconds.items():
        assert 0 <= found[f"{name}_best"] < slept, "a thread that sleeps leaves the processor to others"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("timing.missing_square=12",), "timing.missing_square=12 must be smaller than timing.size=12"),
        (("timing.size=0",), "timing.size=0 must be a whole number of at least 1"),
        (("timing.factors=-1",), "timing.factors=-1"),
        (("timing.kernel=13", "timing.padding=0"), "timing.kernel=13 is larger than the image"),
        (("precision=64-true",), "precision=64-true cannot be timed"),
        (("timing.repeats=1",), "timing.repeats=1 must be a whole number of at least 2"),
        (("timing.hardware=abacus",), "is to be measured on abacus, and this is"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_written(
    words: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = verb("train", "lacuna.verbs.train:main")([*SMALL, "budget=smoke", f"output={tmp_path / 'out'}", *words])
    err = capsys.readouterr().err
    assert code == 2 and sentence in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------- the run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    output = tmp_path_factory.mktemp("timing")
    words = [*SMALL, "budget=smoke", f"output={output}", f"data.root={output / 'data'}", "data.download=false"]
    assert train(*words) == 0
    return RunFolder.of(output, recipe(*words))


def test_a_run_is_recorded_as_any_other_and_done_once(finished: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    output = finished.path.parent.parent
    assert finished.finished and finished.status["state"] == "done" and finished.attempts
    assert not (output / "data").exists(), "no data are prepared"
    record = json.loads((finished.path / "metrics.json").read_text())
    assert record["budget"] == "smoke" and hardware("cpu") in record["data"]["note"]
    before = (finished.path / "times.json").stat().st_mtime_ns
    assert train(*SMALL, "budget=smoke", f"output={output}") == 0
    assert "finished before" in capsys.readouterr().out
    assert (finished.path / "times.json").stat().st_mtime_ns == before
    assert (finished.pictures / "times.png").is_file() and not finished.resumable


def test_it_has_no_model(finished: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LacunaError, match="is a measurement: it has no data and no model"):
        load(finished)
    output = finished.path.parent.parent
    code = verb("evaluate", "lacuna.verbs.evaluate:main")([f"run={finished.path}", f"output={output}"])
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1


def test_a_table_of_times_needs_no_data(finished: RunFolder, tmp_path: Path) -> None:
    """The cells' runs are those of the command line; data that are missing are missing for the other cells only."""
    output = finished.path.parent.parent
    table = spec(
        cell=["experiment={row}"],
        rows={"timing": {}, "digits_zero": {}},
        columns={
            "3": {"metric": "misconv_seconds", "better": "min"},
            "4": {"metric": "conv_seconds", "better": "min"},
        },
    )
    sizes = {"timing.size": 12, "timing.missing_square": 5, "timing.batch": 3}
    found = plan(tmp_path / "no data", output, table, values=sizes)
    times = [cell for cell in found.tables[0].cells if cell.row.key == "timing"]
    assert [cell.recipes[0].name for cell in times] == 2 * [finished.path.name]
    assert found.runs[finished.recipe.identity].state == DONE
    others = [cell for cell in found.tables[0].cells if cell.row.key != "timing"]
    assert all(not cell.recipes for cell in others) and found.missing_data == ("digits",)
    more = plan(tmp_path / "no data", output, table, values=sizes | {"timing.batch": 4})
    assert [run.state for run in more.runs.values()] == [TODO]


def test_preparing_its_data_does_nothing(tmp_path: Path) -> None:
    words = [*SMALL, "data=svhn", f"data.root={tmp_path / 'data'}", "data.download=false"]
    assert prepare_data(config(*words)) == prepare_data(config(*SMALL))
    assert not (tmp_path / "data").exists()
