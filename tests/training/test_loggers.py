from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lacuna.errors import LacunaError
from lacuna.training import loggers as run_logging
from lacuna.training.loggers import DiskLogger, has_key, read_history, wandb_logger


def test_one_json_object_a_line(tmp_path: Path) -> None:
    logger = DiskLogger(tmp_path / "run")
    logger.log_metrics({"loss": 0.5, "epoch": 0}, step=1)
    logger.log_metrics({"loss": float("nan"), "worst": float("-inf")}, step=2)
    logger.log_metrics({"accuracy": torch.tensor(0.25)})  # type: ignore[dict-item]
    text = logger.path.read_text()
    assert json.loads(text.splitlines()[0]) == {"step": 1, "loss": 0.5, "epoch": 0}
    assert "NaN" not in text  # not JSON
    rows = read_history(logger.path)
    assert rows[1]["loss"] != rows[1]["loss"]
    assert rows[1]["worst"] == float("-inf")
    assert rows[2] == {"accuracy": 0.25}


def test_half_a_line_is_dropped(tmp_path: Path) -> None:
    logger = DiskLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, step=0)
    with logger.path.open("a") as file:
        file.write('{"step": 1, "lo')
    assert read_history(logger.path) == [{"step": 0, "loss": 1.0}]
    again = DiskLogger(tmp_path)
    again.log_metrics({"loss": 2.0}, step=1)
    assert read_history(logger.path) == [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 2.0}]


def test_truncation(tmp_path: Path) -> None:
    logger = DiskLogger(tmp_path)
    for step in range(6):
        logger.log_metrics({"loss": float(step)}, step=step)
    logger.truncate(2)
    assert [row["step"] for row in read_history(logger.path)] == [0, 1]
    assert logger.lines == 2
    later = DiskLogger(tmp_path)
    later.log_metrics({}, step=9)
    later.drop_inherited()
    assert read_history(logger.path) == [{"step": 9}]
    later.drop_inherited()
    assert later.lines == 1


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\nnonsense\n{"step": 2}\n')
    with pytest.raises(LacunaError, match=r"metrics\.jsonl is damaged in line 2"):
        read_history(tmp_path / "metrics.jsonl")
    assert read_history(tmp_path / "nothing.jsonl") == []


def test_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = DiskLogger(tmp_path)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(LacunaError, match="No space left"):
        logger.log_metrics({"loss": 1.0})


def test_key_from_environment_or_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_key()
    (tmp_path / "netrc").write_text("machine elsewhere.example login user password x\n")
    assert not has_key()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example:8080/path")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_key()


def read_offline_run(folder: Path) -> list[Any]:
    """The records of an offline run: a 7-byte header, then LevelDB log blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2 as records_of_wandb

    (path,) = folder.rglob("*.wandb")
    data = path.read_bytes()
    position, whole, records = 7, b"", list[Any]()
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = records_of_wandb.Record()  # type: ignore[attr-defined]
            record.ParseFromString(whole)
            records.append(record)
            whole = b""
    return records


def settled_offline_run(folder: Path) -> list[Any]:
    """The records once the last one is there: W&B's own process writes them, at times after finish() has returned."""
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        records = read_offline_run(folder)
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.05)
    raise AssertionError(f"{folder} has no end record")


@pytest.mark.slow
def test_offline_wandb_run_can_be_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs in one process keep their own ids, and hold what was logged and how it ended."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    recipe = {"seed": 1, "task": {"lr": 0.001}, "data": {"name": "digits"}}
    for number in range(2):
        folder = tmp_path / str(number)
        logger = wandb_logger(f"abc{number}", f"digits {number}", "digits", ["misconv", "quick"], recipe, folder)
        try:
            logger.log_metrics({"loss": 0.5}, step=3)
            logger.log_images("imputations", [Image.new("L", (4, 4))])
            logger.finalize("success")
        finally:
            logger.close(exit_code=number)
        logger.close()
        records = settled_offline_run(folder)
        (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
        assert (run.run_id, run.display_name, run.run_group) == (f"abc{number}", f"digits {number}", "digits")
        assert set(run.tags) == {"misconv", "quick"}
        config = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in run.config.update}
        assert {key: config[key] for key in recipe} == recipe
        history = [
            {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for record in records
            if record.WhichOneof("record_type") == "history"
        ]
        assert any(row.get("loss") == 0.5 for row in history)
        (ended,) = [record.exit for record in records if record.WhichOneof("record_type") == "exit"]
        assert ended.exit_code == number
        assert list(folder.rglob("*.png"))


def test_wandb_is_imported_late_and_its_absence_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "wandb" not in vars(run_logging)
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(LacunaError, match="pip install wandb"):
        wandb_logger("a", "b", "c", [], {}, tmp_path)
