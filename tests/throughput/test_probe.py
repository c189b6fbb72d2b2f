"""The probe: real steps in real processes, kept for the next command, and the memory of a whole run from a part."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from lacuna.runs.machine import visible_gpus
from lacuna.throughput import card
from lacuna.throughput import probe as module
from lacuna.throughput.card import CardMemory, card_memory, least_free
from lacuna.throughput.measurements import Measurements
from lacuna.throughput.probe import CONTEXT, ProbeRequest, memory_of_a_run, probe
from lacuna.throughput.step_kinds import Kind, kinds_of, stored_in
from tests.runs.real import recipe
from tests.throughput.made_up import GIB, made, row


@pytest.fixture
def kind(digits_root: Path) -> Kind:
    zero = recipe("experiment=digits_zero", "features=none", f"data.root={digits_root}")
    [found], _ = kinds_of([zero, zero.with_seed(1)], stored_in(digits_root))
    return found


@pytest.mark.slow
def test_steps_are_measured_once(kind: Kind, digits_root: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(module, "TIMING", 0.2)
    monkeypatch.setattr(module, "hardware", lambda accelerator: "A GPU")
    # a driver that has 1000 MiB more in use whenever it is asked: before anything starts, and when one run is warm
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho x >> {tmp_path}/asked\necho 9000, $(($(wc -l < {tmp_path}/asked) * 1000))\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    monkeypatch.setattr(module, "visible_gpus", lambda: ["0"])
    request = ProbeRequest((kind,), tmp_path, digits_root, "cpu", 300.0, threads=1)
    memory = CardMemory(total=4 * GIB, used=GIB)  # two runs fit
    found = probe(request, memory)
    assert found is not None and "measuring" in capsys.readouterr().err
    measured = found.rows[kind.key]
    assert measured["ms"] > 0 and set(measured["side_by_side"]) == {2}
    assert measured["process"] == 1000 * card.MIB > CONTEXT and measured["memory"] >= measured["process"]
    assert found.memory == 3 * GIB and found.number(kind.key) in (1, 2)
    monkeypatch.setattr(module, "Pool", None)  # nothing is measured any more
    assert probe(request, memory) == found and capsys.readouterr().err == ""


def test_what_is_not_worth_it_is_not_measured(kind: Kind, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "Pool", None)
    short = dataclasses.replace(kind, steps=[10] * 5)
    found = probe(ProbeRequest((short,), tmp_path, tmp_path, "cpu"), CardMemory(GIB, 0))
    assert found is not None and found.rows == {} and not list(tmp_path.iterdir())
    found = probe(ProbeRequest((kind,), tmp_path, tmp_path, "cpu", seconds=0), CardMemory(GIB, 0))
    assert found is not None and found.rows == {}
    monkeypatch.setattr(module, "visible_gpus", list)
    assert probe(ProbeRequest((kind,), tmp_path, tmp_path, "cpu")) is None


def test_kept_measurements_follow_the_number_of_images(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "hardware", lambda accelerator: "A GPU")
    [small], _ = kinds_of([made("experiment=mnist_misconv", "data.train_images=6000")])
    [whole], _ = kinds_of([made("experiment=mnist_misconv")])
    assert small.key == whole.key and small.images < whole.images
    Measurements("A GPU", GIB, {small.key: row(10.0, memory=2.0, n2=11.0)}).save(tmp_path)

    def memory(kind: Kind) -> int:
        found = probe(ProbeRequest((kind,), tmp_path, tmp_path, "cpu"), CardMemory(40 * GIB, 0))
        assert found is not None
        return int(found.rows[kind.key]["memory"])

    assert memory(small) == 2 * GIB < memory(whole)


def test_the_images_that_were_left_out_take_memory_as_well() -> None:
    [zero], _ = kinds_of([made("experiment=mnist_zero")])
    [misconv], _ = kinds_of([made("experiment=mnist_misconv")])
    part = row(10.0, memory=2.0)
    missing = zero.images - part["images"]
    # a byte and a mask for every pixel; 8 bytes for what an imputer makes of it
    assert memory_of_a_run(zero, part) == pytest.approx(2 * GIB + missing * 784 * 10)
    # a density's encodings take the largest cache that is allowed, less what was measured of it
    assert memory_of_a_run(misconv, part) == pytest.approx(
        2 * GIB + missing * 784 * 2 + module.CACHE * missing / misconv.images
    )
    assert memory_of_a_run(misconv, {**part, "images": misconv.images}) == 2 * GIB


def test_the_driver_is_asked_and_torch_where_it_cannot_tell(tmp_path: Path, monkeypatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\ncase "$*" in *"-i 1") echo "1000, 900";; *"-i 0") echo "1000, 100";; *) exit 6;; esac\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert card_memory("0") == CardMemory(1000 * card.MIB, 100 * card.MIB)
    assert least_free(["0", "1"]) == CardMemory(1000 * card.MIB, 900 * card.MIB)
    assert card_memory("MIG-0") is None and least_free([]) is None
    monkeypatch.setattr(card, "QUESTION", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'][-1], ',', 3)")
    assert least_free(["0", "MIG-5"]) == CardMemory(5 * card.MIB, 3 * card.MIB)
    monkeypatch.setattr(card, "QUESTION", "raise SystemExit(1)")
    assert least_free(["0", "MIG-5"]) is None


@pytest.mark.gpu
def test_memory_on_a_gpu_is_what_the_driver_says(kind: Kind, digits_root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "FRAGMENTS", 0)  # only what the driver says counts
    monkeypatch.setattr(module, "CONTEXT", 0)
    monkeypatch.setattr(module, "TIMING", 0.5)
    found = probe(ProbeRequest((kind,), tmp_path, digits_root, "cuda", 90.0), CardMemory(3 * GIB, 0))
    assert found is not None and torch.cuda.get_device_name(0) in found.hardware
    measured = found.rows[kind.key]
    # CUDA's context and torch's cache come on top of tensors, and a small classifier takes no more than 3 GiB
    assert 0 < measured["bytes"] < measured["process"] < 3 * GIB
    asked = least_free(visible_gpus())
    assert asked is not None and asked.total > asked.used > 0
