"""What was understood of a user's images, in lines of text; nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lacuna.errors import LacunaError
from lacuna.inference.array_file import read_stacks
from lacuna.inference.pictures import Listing, read_picture


def folder_lines(
    listing: Listing, value_range: Sequence[float] | None = None
) -> tuple[list[str], list[tuple[Path, str]]]:
    """A line for each image and a summary, and the images that would be left out, with the reason.

    Args:
        listing: the images.
        value_range: (low, high) of the values; None: as their type has it.
    """
    failed, lines, notes = list(listing.problems), [], Counter[str]()
    sizes, depths, missing, pixels, masks = Counter[str](), Counter[str](), 0, 0, 0
    for item in listing.items:
        try:
            picture = read_picture(item, value_range)
        except (LacunaError, OSError) as error:
            failed.append((item.name, str(error)))
            continue
        channels, height, width = picture.values.shape
        lacking = int((~picture.observed).sum())
        missing, pixels, masks = missing + lacking, pixels + height * width, masks + len(item.masks)
        size, depth = f"{width}x{height}", f"{_colour(channels)} {picture.scale}"
        sizes[size] += 1
        depths[depth] += 1
        notes.update(picture.notes)
        mask = f"  mask {item.masks[0].name}" if item.masks else ""
        lines.append(f"{item.name}  {size}  {depth}  {_share(lacking, height * width)} missing{mask}")
    lines.append(f"{len(lines)} images, {_share(missing, pixels)} of their pixels missing, {masks} mask files")
    lines += [f"sizes: {_listed(sizes)}", f"depths: {_listed(depths)}"] if sizes else []
    lines += [f"{count} image{'s' * (count != 1)}: {note}" for note, count in sorted(notes.items())]
    lines += [f"not looked at: {count} {kind}" for kind, count in sorted(listing.left_out.items())]
    return lines, failed


def array_lines(path: Path, layout: str, value_range: Sequence[float] | None = None) -> list[str]:
    """A line for each set of images of a NumPy file.

    Args:
        path: of the file.
        layout: where the channels are.
        value_range: (low, high) of the values; None: as their type has it.

    Raises:
        LacunaError: the file cannot be read.
    """
    stacks, notes = read_stacks(path, layout, value_range)
    lines = []
    for stack in stacks:
        n, channels, height, width = stack.values.shape
        share = _share(int((~stack.observed).sum()), stack.observed.size)
        per = " (channel by channel)" if stack.observed.shape[1] > 1 else ""
        lines.append(
            f"{stack.prefix}images: {n} of {width}x{height}, {_colour(channels)} {stack.scale}, {share} missing{per}"
        )
    return [*lines, *notes]


def _share(part: int, whole: int) -> str:
    """A share in per cent; what is not nothing is not shown as nothing."""
    percent = 100 * part / max(1, whole)
    return "<0.1 %" if 0 < percent < 0.1 else f"{percent:.1f} %"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _colour(channels: int) -> str:
    return "grey" if channels == 1 else "RGB"
