"""The data sets behind some numbers: how many images, and how they differ from the published set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lacuna.runs.finished import StoredRun
from lacuna.runs.protocol import official_counts
from lacuna.tables.gather import TableResult

SAMPLE = " (a sample of the set)"


@dataclass(frozen=True)
class DataFacts:
    """One data set.

    Args:
        name, fingerprint, note: of the data's provenance.
        train, test: number of images that were used; None: not recorded.
        stored: number of images in the prepared set, by split.
        official: number of images in the published set, by split; empty for sets that are not published.
        complete: whether all published test images were used.
        sample: whether the prepared set is only a part of the published one.
        lossless: whether the pixels are as published.
    """

    name: str
    fingerprint: str
    train: int | None
    test: int | None
    stored: Mapping[str, int]
    official: Mapping[str, int]
    complete: bool
    sample: bool
    lossless: bool
    note: str

    @property
    def of(self) -> int | None:
        """Number of test images of the whole set; None: unknown."""
        return self.official.get("test") or self.stored.get("test")

    @property
    def tested_on(self) -> str:
        """``1 136 of 26 032 test images (a sample of the set)``."""
        if not self.test:
            return ""
        share = "" if self.of in (None, self.test) else f" of {count(self.of or 0)}"
        return f"{count(self.test)}{share} test images{SAMPLE if self.sample else ''}"

    @property
    def trained_on(self) -> str:
        """``5 590 of 73 257``; validation images are not counted."""
        whole = self.official.get("train") or self.stored.get("train")
        if not self.train:
            return ""
        return count(self.train) if not whole or whole == self.train else f"{count(self.train)} of {count(whole)}"

    @property
    def short(self) -> str:
        """``1 136 of 26 032, a sample``, for the head of a column; empty for a whole set."""
        text = self.tested_on.replace(" test images", "").replace(SAMPLE, ", a sample")
        return "" if self.complete else text

    @property
    def flags(self) -> list[str]:
        """Why a number on these images cannot be compared with one on the published set."""
        reasons = [] if self.complete else [self.tested_on or "a part of the set"]
        if not self.lossless:
            reasons.append(f"pixels of a lossy copy{f' ({self.note})' if self.note else ''}")
        return [f"{self.name}: {'; '.join(reasons)}"] if reasons else []


def data_facts(result: TableResult) -> list[DataFacts]:
    """The data sets of a table, each once."""
    return facts_of(run for cell in result.cells for run in cell.done)


def facts_of(runs: Iterable[StoredRun]) -> list[DataFacts]:
    """The data sets of some runs, each once, in their order."""
    found: dict[tuple[Any, ...], DataFacts] = {}
    for run in runs:
        if not run.data or run.recipe.measured:
            continue
        data = run.recipe.config["data"]
        key = (run.data.get("fingerprint"), str(run.data.get("images")))
        if key not in found:
            found[key] = _facts(run, str(data["name"]), official_counts(data))
    return list(found.values())


def _facts(run: StoredRun, name: str, official: Mapping[str, int]) -> DataFacts:
    record = run.data
    used, stored = dict(record.get("images") or {}), dict(record.get("stored") or {})
    whole, prepared = official.get("test"), stored.get("test")
    return DataFacts(
        name=name,
        fingerprint=str(record.get("fingerprint", "")),
        train=used.get("train"),
        test=used.get("test"),
        stored=stored,
        official=official,
        complete=bool(run.complete),
        sample=prepared < whole
        if whole and prepared
        else record.get("complete") is False and used.get("test") == prepared,
        lossless=bool(record.get("lossless", True)),
        note=str(record.get("note") or ""),
    )


def count(number: int) -> str:
    """``26 032``, with non-breaking spaces."""
    return f"{number:,}".replace(",", "\u00a0")
