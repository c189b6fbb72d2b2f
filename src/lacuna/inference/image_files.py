"""A user's own images, read from a folder or a NumPy file, and their imputations, written beside each other."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from lacuna.errors import LacunaError
from lacuna.inference.array_file import Stack
from lacuna.inference.batches import ImputedBatch
from lacuna.inference.filling import Filling, kind_of
from lacuna.inference.pictures import Item, Listing, Picture, read_picture
from lacuna.inference.record import Record, digest_of
from lacuna.inference.results import encoded, encoded_map, result_names

BATCH = 64
"""Images a step."""
PIXELS = 2**22
"""Pixels a step, and half of those that wait for others of their size."""


@dataclass
class Outcome:
    """What became of the images.

    Args:
        imputed: how many were completed now.
        kept: how many had been completed before.
        complete: how many of those completed now had no missing pixel.
        failed: (name, sentence) of the others.
        notes: what a user should know -> how many images.
    """

    imputed: int = 0
    kept: int = 0
    complete: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Waiting:
    picture: Picture
    digest: str


def impute_pictures(
    listing: Listing, filling: Filling, record: Record, value_range: Sequence[float] | None = None
) -> Outcome:
    """Impute the images of a folder; one that cannot be does not stop the others.

    Args:
        listing: the images.
        filling: what imputes.
        record: of the folder of results.
        value_range: (low, high) of the values; None: as their type has it.

    Raises:
        LacunaError: the results cannot be written.
    """
    outcome = Outcome(failed=list(listing.problems))
    waiting: dict[Any, list[_Waiting]] = {}
    for one in _prepared(listing.items, filling, record, value_range, outcome):
        kind = (kind_of(one.picture), one.picture.scale)
        waiting.setdefault(kind, []).append(one)
        pixels = one.picture.values[0].size
        if len(waiting[kind]) == BATCH or (len(waiting[kind]) + 1) * pixels > PIXELS:
            _finish(waiting.pop(kind), filling, record, outcome)
        elif sum(w.picture.values[0].size for group in waiting.values() for w in group) > 2 * PIXELS:
            for group in waiting.values():
                _finish(group, filling, record, outcome)
            waiting.clear()
    for group in waiting.values():
        _finish(group, filling, record, outcome)
    return outcome


def impute_stacks(path: Path, stacks: Sequence[Stack], filling: Filling, record: Record) -> Outcome:
    """Impute the images of a NumPy file, which become one ``.npz`` file, whole or not at all.

    Args:
        path: of the file.
        stacks: its images.
        filling: what imputes.
        record: of the folder of results.

    Raises:
        LacunaError: images of another size than the model's, or the results cannot be written.
    """
    outcome, digest = Outcome(), digest_of([path])
    count = sum(len(stack.values) for stack in stacks)
    if record.is_done(Path(path.name), digest):
        outcome.kept = count
        return outcome
    results: dict[str, Any] = {}
    for stack in stacks:
        filling.batches.check(stack.values.shape[1:], path)
        if filling.alone:
            blank = int((~stack.observed.any((1, 2, 3))).sum())
            outcome.notes["no observed pixel: filled with the middle of the range"] += blank
        results |= _imputed_stack(stack, filling)
        outcome.complete += int(stack.observed.all((1, 2, 3)).sum())
    stream = io.BytesIO()
    np.savez_compressed(stream, **results)
    record.write(Path(path.name), digest, {Path(f"{path.stem}.npz"): stream.getvalue()})
    outcome.imputed, outcome.notes = count, +outcome.notes
    return outcome


def _imputed_stack(stack: Stack, filling: Filling) -> dict[str, Any]:
    n, pixels = len(stack.values), max(1, stack.values[0, 0].size if len(stack.values) else 1)
    step = max(1, min(BATCH, PIXELS // pixels))
    imputer = filling.of((stack.values.shape[1:], stack.scale.dtype))
    imputed = []
    for rows in (slice(start, min(start + step, n)) for start in range(0, n, step)):
        names = range(rows.start, rows.stop)
        imputed.append(imputer(stack.values[rows], stack.observed[rows], names, stack.scale))
    arrays: dict[str, Any] = {"images": np.concatenate([b.images for b in imputed]), "observed": stack.observed}
    deviations = [batch.deviation for batch in imputed if batch.deviation is not None]
    if deviations:
        arrays["uncertainty"] = np.concatenate(deviations)
    if filling.samples:
        arrays["samples"] = np.concatenate([batch.samples for batch in imputed], 1)
    return {f"{stack.prefix}{name}": array for name, array in arrays.items()}


def _prepared(
    items: Sequence[Item],
    filling: Filling,
    record: Record,
    value_range: Sequence[float] | None,
    outcome: Outcome,
) -> Iterator[_Waiting]:
    """The pictures that are still to be done, read; what cannot be read is noted."""
    console = Console(stderr=True)
    for item in track(items, "imputing", console=console, disable=not console.is_terminal):
        try:
            digest = digest_of([item.path, *item.masks])
            if record.is_done(item.name, digest):
                outcome.kept += 1
                continue
            picture = filling.accepted(read_picture(item, value_range), item.path)
        except (LacunaError, OSError) as error:
            outcome.failed.append((item.name, str(error)))
            continue
        if record.was_changed(item.name, digest):
            outcome.notes["changed since the last time, imputed again"] += 1
        outcome.notes.update(picture.notes)
        yield _Waiting(picture, digest)


def _finish(group: list[_Waiting], filling: Filling, record: Record, outcome: Outcome) -> None:
    """Impute pictures of one size and scale together, and write the results."""
    pictures = [one.picture for one in group]
    names = [picture.name for picture in pictures]
    images, observed = np.stack([p.values for p in pictures]), np.stack([p.observed for p in pictures])
    imputer = filling.of(kind_of(pictures[0]))
    try:
        imputed = imputer(images, observed, [name.as_posix() for name in names], pictures[0].scale)
    except (LacunaError, MemoryError) as error:
        reason = str(error) or "there is not enough memory"
        outcome.failed += [(name, f"{name} cannot be imputed: {reason}") for name in names]
        return
    for row, one in enumerate(group):
        try:
            results = _results(one.picture, imputed, row)
        except LacunaError as error:
            outcome.failed.append((one.picture.name, str(error)))
            continue
        record.write(one.picture.name, one.digest, results)
        outcome.imputed += 1
        outcome.complete += bool(one.picture.observed.all())
        if next(iter(results)).suffix != one.picture.name.suffix:
            outcome.notes[f"{one.picture.name.suffix} written as .png"] += 1


def _results(picture: Picture, imputed: ImputedBatch, row: int) -> dict[Path, bytes]:
    outputs = result_names(picture.name, len(imputed.samples), imputed.deviation is not None)
    contents = [encoded(imputed.images[row], picture, outputs[0])]
    if imputed.deviation is not None:
        contents.append(encoded_map(imputed.deviation[row]))
    for sample, output in zip(imputed.samples, outputs[len(contents) :], strict=True):
        contents.append(encoded(sample[row], picture, output))
    return dict(zip(outputs, contents, strict=True))


def readable(items: Sequence[Item], value_range: Sequence[float] | None = None) -> Iterator[Picture]:
    """The pictures among the items, to learn from; those that cannot be read are left to the imputation to tell."""
    for item in items:
        with suppress(LacunaError, OSError):
            yield read_picture(item, value_range)


def pictures_of(stacks: Sequence[Stack]) -> Iterator[Picture]:
    """The images of a NumPy file one by one."""
    for stack in stacks:
        for number, (values, observed) in enumerate(zip(stack.values, stack.observed, strict=True)):
            yield Picture(Path(str(number)), values, observed, stack.scale, "")
