from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lacuna.errors import LacunaError
from lacuna.training.loggers import DiskLogger, read_history


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


def test_who_follows_is_told_every_line_once_it_is_written(tmp_path: Path) -> None:
    told: list[tuple[dict[str, Any], int, int]] = []
    logger = DiskLogger(tmp_path, then=lambda row, place: told.append((row, place, len(read_history(logger.path)))))
    logger.log_metrics({"loss": float("inf")}, step=1)
    logger.log_metrics({"loss": 0.5}, step=2)
    assert told == [({"step": 1, "loss": float("inf")}, 0, 1), ({"step": 2, "loss": 0.5}, 1, 2)]
