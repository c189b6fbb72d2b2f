"""The parts of the one command, by themselves: options, clock, kinds of steps, order of cells, hours, what is kept."""

from __future__ import annotations

import dataclasses
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lacuna.errors import LacunaError
from lacuna.gpu.deadline import Clock
from lacuna.gpu.gpu_tests import files_with_gpu_tests, summary
from lacuna.gpu.handover import pack_runs, unpack_runs
from lacuna.gpu.options import PARTS, parse
from lacuna.gpu.priority import Tier, WantedRun, cheapest_first, wanted_runs
from lacuna.gpu.projection import projection
from lacuna.gpu.random_images import write_random_images
from lacuna.runs.folder import RunFolder
from lacuna.runs.prepare import prepare_data
from lacuna.runs.recipe import Recipe
from lacuna.runs.resolve import resolve
from lacuna.throughput.pool import Pool
from lacuna.throughput.rows import best_number, load_rows, save_rows, seconds_of
from lacuna.throughput.shortened import shortened
from lacuna.throughput.step_kinds import Kind, kind_key, kinds_of, steps_of, train_images
from lacuna.throughput.stopwatch import TimingRequest
from tests.runs.real import ROOT, config
from tests.tables.planning import plan, spec


def made(*words: str) -> Recipe:
    return resolve(config(*words), "none")


def test_options_are_read_and_mistakes_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "load.py").touch()
    read = parse([f"output={tmp_path}", f"data={tmp_path}", "minutes=0.5", "parts=cells,steps", "runs=3"])
    assert (read.minutes, read.parts, read.shares, read.runs) == (0.5, ("steps", "cells"), (30, 45), 3)
    for word, message in {
        "minuts=1": "did you mean minutes=?",
        "minutes=soon": "it must be a number",
        "minutes=0": "above 0",
        "accelerator=tpu": "one of auto, cuda, cpu",
        "parts=cells,tables": "parts=tables must be one of",
        "cells=celeba64": "one of mnist, cifar10, svhn",
        "shares=1,2": "4 numbers above 0",
        "data=nowhere": "is not a folder",
        "data=" + str(ROOT / "docs"): "has no load.py",
        "resume=nowhere": "is not a file",
        "runs=0": "at least 1",
        "output=x": "appears twice",
    }.items():
        with pytest.raises(LacunaError, match=message.replace("?", r"\?")):
            parse([f"output={tmp_path}", word])
    with pytest.raises(LacunaError, match="output is missing"):
        parse([])


def test_what_a_part_leaves_of_its_share_goes_to_the_others() -> None:
    now = [0.0]
    clock = Clock(100, {"a": 20, "b": 30, "c": 50}, lambda: now[0])
    assert clock.begin("a") == 20
    now[0] = 5.0  # 95 left for b and c, in their proportion
    assert clock.begin("b") == pytest.approx(95 * 30 / 80)
    now[0] = 90.0  # b took too long
    assert clock.begin("c") == pytest.approx(10) and clock.part_left == pytest.approx(clock.left)
    now[0] = 101.0
    assert clock.left < 0 and clock.begin("c") == 0


def test_steps_are_epochs_times_batches_of_the_published_set() -> None:
    classifier = made("experiment=mnist_zero")
    training, aside = classifier.training, classifier.config["data"]["validation"]
    images = 60_000 - aside
    assert train_images(classifier) == images
    assert steps_of(classifier) == training["epochs"] * math.ceil(images / training["batch_size"])
    assert train_images(made("experiment=mnist_zero", "budget=smoke")) == 48
    assert steps_of(made("experiment=mnist_impute", "imputer=linear")) == 0


def test_runs_whose_steps_cost_the_same_are_one_kind() -> None:
    zero, other = made("experiment=mnist_zero"), made("experiment=mnist_zero", "net.training.lr=0.1", "mask=noise")
    partial = made("experiment=mnist_partial")
    wider = made("experiment=mnist_misconv", "density.factors=2")
    assert kind_key(zero) == kind_key(other) != kind_key(partial)
    assert kind_key(wider) != kind_key(made("experiment=mnist_misconv"))  # another density behind the same net
    kinds, others = kinds_of([zero, other.with_seed(3), partial, made("experiment=mnist_impute", "imputer=linear")])
    assert sorted(kind.runs for kind in kinds) == [1, 2] and others == 1


def test_hours_are_steps_times_milliseconds() -> None:
    kinds = [Kind(str(i), f"kind {i}", made("experiment=mnist_zero"), [1000, 3000], images=60_000) for i in range(2)]
    row = {"ms": 9.0, "batch_size": 24, "begin_seconds": 2.0, "images": 6_000, "bytes": 1, "side_by_side": {2: 10.0}}
    found = projection(kinds, {"0": row, "1": {"error": "no memory"}}, others=5)
    begin = 2 * 2.0 * 10  # two runs, ten times as many images
    assert found["hours_alone"] == pytest.approx((4000 * 0.009 + begin) / 3600)
    assert found["hours_best"] == pytest.approx((4000 * 0.005 + begin) / 3600)
    assert found["lower_bound"] and found["not_measured"] == [
        {"name": "kind 1", "runs": 2, "steps": 4000, "reason": "no memory"}
    ]
    assert "at least" in found["line"] and "1 kinds of runs not measured" in found["line"]
    assert not projection(kinds[:1], {"0": row}, others=0)["lower_bound"]


def test_what_was_measured_is_kept_for_the_same_hardware(tmp_path: Path) -> None:
    zero, partial = made("experiment=mnist_zero"), made("experiment=mnist_partial")
    row = {"ms": 9.0, "begin_seconds": 2.0, "images": 6_000, "side_by_side": {2: 10.0, 4: 30.0}}
    rows = {kind_key(zero): row, kind_key(partial): {"error": "no memory"}}
    save_rows(tmp_path / "rows.json", "A GPU", rows)
    kept = load_rows(tmp_path / "rows.json", "A GPU")
    assert kept == {kind_key(zero): row} and best_number(kept) == 2  # 2 / 10 > 4 / 30 > 1 / 9
    assert load_rows(tmp_path / "rows.json", "another") == {} == load_rows(tmp_path / "none.json", "A GPU")
    assert seconds_of(zero, kept) == pytest.approx(steps_of(zero) * 0.009 + 2.0 * train_images(zero) / 6_000)
    assert seconds_of(partial, kept) is None and best_number({}) is None


def test_cheapest_per_printed_number_first_and_prerequisites_before() -> None:
    misconv, mean, zero = (made(f"experiment=mnist_{name}") for name in ("misconv", "mfa_mean", "zero"))
    density = misconv.prerequisites["density"]
    cost = {misconv.identity: 10.0, mean.identity: 5.0, zero.identity: 12.0, density.identity: 100.0}
    runs = [
        WantedRun(made("experiment=cifar10_zero"), 1, numbers=9),
        WantedRun(misconv, 0, numbers=2),
        WantedRun(mean, 0, numbers=1),
        WantedRun(zero, 0, numbers=1),
    ]
    cost[runs[0].recipe.identity] = 0.1
    found = cheapest_first(runs, lambda recipe: cost[recipe.identity], lambda recipe: False)
    # zero costs 12 a number; misconv (100 + 10) / 2, and pays for the density that mean needs as well
    assert [each for each, _ in found] == [zero, density, misconv, mean, runs[0].recipe]
    # where the density is there, mean costs 5 a number, as misconv does, and zero most
    done = cheapest_first(runs, lambda recipe: cost[recipe.identity], lambda recipe: recipe == density)
    assert [each for each, _ in done] == [misconv, mean, zero, runs[0].recipe]


def test_cells_of_tiers(digits_root: Path, tmp_path: Path) -> None:
    planned = plan(digits_root, tmp_path, spec(paper=None))
    first = Tier("digits", ("tests/table",), rows=("zero",), columns=("square",))
    found = wanted_runs(planned, (first, Tier("digits", ("tests/table",)), Tier("mnist", ("tests/table",))))
    assert [run.tier for run in found] == [0] + [1] * (len(found) - 1)
    assert sum(len(run.cells) for run in found) == 6 + 1  # the first cell is in both tiers


def test_what_is_carried_to_the_next_machine(tmp_path: Path) -> None:
    misconv, zero = made("experiment=mnist_misconv"), made("experiment=mnist_zero")
    density = misconv.prerequisites["density"]
    sizes = {density.identity: 1000, misconv.identity: 500, zero.identity: 10_000}
    for recipe in (density, misconv, zero):
        folder = RunFolder.of(tmp_path / "out", recipe).path
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "recipe.json").write_text(json.dumps(recipe.config))
        (folder / "pictures").mkdir()
        (folder / "pictures" / "a.png").write_bytes(b"of data")
    (RunFolder.of(tmp_path / "out", density).path / "metrics.json").write_text("{}")
    (RunFolder.of(tmp_path / "out", density).path / "model.safetensors").write_bytes(bytes(sizes[density.identity]))
    for recipe in (misconv, zero):
        (RunFolder.of(tmp_path / "out", recipe).path / "checkpoints" / "last.ckpt").write_bytes(
            bytes(sizes[recipe.identity])
        )
    file = tmp_path / "resume.tgz"
    packed, left_out = pack_runs([density, misconv, zero], tmp_path / "out", file, most=12_000)
    assert set(packed) == {density.name, misconv.name} and left_out == [zero.name]
    unpack_runs(file, tmp_path / "there")
    assert RunFolder.of(tmp_path / "there", misconv).resumable and RunFolder.of(tmp_path / "there", density).finished
    assert not list((tmp_path / "there").rglob("*.png"))
    assert pack_runs([], tmp_path / "out", file) == ([], []) and not file.exists()


def test_a_foreign_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    for name in ("x", "runs/../../x/y", "../runs/a/b"):
        with tarfile.open(tmp_path / "evil.tgz", "w:gz") as archive:
            archive.add(tmp_path / "x", arcname=name)
        with pytest.raises(LacunaError, match="cannot be unpacked"):
            unpack_runs(tmp_path / "evil.tgz", tmp_path / "there")
    assert not (tmp_path / "there").exists() or not list((tmp_path / "there").rglob("*"))


@pytest.mark.slow
def test_steps_are_timed_alone_and_side_by_side_and_an_error_ends_nothing(tmp_path: Path) -> None:
    write_random_images(tmp_path / "data")
    words = ["budget=smoke", f"data.root={tmp_path / 'data'}", "data.download=false"]
    zero = config("experiment=digits_zero", *words)
    content = shortened(resolve(zero, prepare_data(zero)), 16)
    request = TimingRequest(content, tmp_path / "data", tmp_path / "out", 0.2, 0.5, "cpu", 1)
    broken = dataclasses.replace(request, config={**content, "net": {**content["net"], "type": "nothing.Net"}})
    with Pool(2) as pool:
        assert pool.grow(2, 400)
        for number in (1, 2):
            answers = pool.measure(request, number, 120)
            assert len(answers) == number
            for answer in answers:  # steps in whole, and no more time than was asked for but for the last of them
                assert (
                    answer["steps"] >= 1
                    and answer["seconds"] > 0
                    and answer["images"] == content["data"]["train_images"]
                )
            [wrong] = pool.measure(broken, 1, 120)
            assert "nothing" in wrong["error"] and "steps" not in wrong


def test_what_the_tests_said_in_one_line() -> None:
    tests: list[dict[str, Any]] = [
        {"test": "a", "outcome": "passed", "reason": ""},
        {"test": "b", "outcome": "failed", "reason": "1 is not 2"},
        {"test": "c", "outcome": "skipped", "reason": "needs a GPU"},
    ]
    assert summary(tests) == "1 passed, 1 failed, 1 skipped (b: 1 is not 2)"
    assert summary([]) == "no test" and PARTS[0] == "tests"


def test_only_files_with_gpu_tests_are_collected() -> None:
    found = {path.name for path in files_with_gpu_tests(ROOT / "tests")}
    assert {"test_cuda.py", "test_masks.py", "test_incomplete.py"} <= found and "test_on_ray.py" not in found
