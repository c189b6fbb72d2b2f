"""Offline runs of W&B, read back from their files: what a dashboard will show."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class OfflineRun:
    """The records of one attempt of a run, complete once W&B's own process has written the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        deadline = time.monotonic() + 30.0
        while not (found := read(path)) or found[-1].WhichOneof("record_type") != "exit":
            if any(record.WhichOneof("record_type") == "exit" for record in found):
                break
            if time.monotonic() > deadline:
                raise AssertionError(f"{path} has no end record")
            time.sleep(0.05)
        self.records = found
        (self.run,) = self.of("run")

    def of(self, kind: str) -> list[Any]:
        return [getattr(record, kind) for record in self.records if record.WhichOneof("record_type") == kind]

    @property
    def config(self) -> dict[str, Any]:
        return entries(self.run.config.update)

    @property
    def history(self) -> list[dict[str, Any]]:
        return [entries(record.item) for record in self.of("history")]

    @property
    def summary(self) -> dict[str, Any]:
        return {key: value for record in self.of("summary") for key, value in entries(record.update).items()}

    @property
    def metrics(self) -> dict[str, set[str]]:
        """Defined metrics: name -> summaries that are kept."""
        names = ("min", "max", "last", "mean")
        return {m.name or m.glob_name: {n for n in names if getattr(m.summary, n)} for m in self.of("metric")}

    @property
    def exit_code(self) -> int:
        (ended,) = self.of("exit")
        return int(ended.exit_code)

    @property
    def files(self) -> Path:
        return self.path.parent / "files"

    def media(self, kind: str = "images") -> set[str]:
        """Names of logged pictures, tables or pages."""
        types = {"images": ("images/separated", "image-file"), "tables": ("table-file",), "pages": ("html-file",)}
        suffix = "/_type"
        return {
            name.removesuffix(suffix)
            for row in self.history
            for name, value in row.items()
            if name.endswith(suffix) and value in types[kind]
        }


def offline_runs(folder: Path) -> list[OfflineRun]:
    """All offline runs below a folder, oldest first."""
    paths = sorted(folder.rglob("*.wandb"), key=lambda path: path.stat().st_mtime)
    return [OfflineRun(path) for path in paths]


def entries(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def read(path: Path) -> list[Any]:
    """The records of a file: a 7-byte header, then LevelDB log blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2 as records_of_wandb

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
