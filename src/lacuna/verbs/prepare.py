"""The command ``prepare``: download a data set, or make it from arrays that were read already."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from lacuna.config.paths import CONFIGS
from lacuna.data import reader_arrays
from lacuna.data.prepared import PreparedData
from lacuna.data.sources.base import Source
from lacuna.errors import LacunaError
from lacuna.program import command_text
from lacuna.runs.budget import source_of

ABOUT = """\
Prepare a data set: download it, or use arrays that you have read yourself.

  {prepare} mnist
  {prepare} svhn --train train.npz --test test.npz --sample
  {prepare} celeba64 --reader my_reader.py:load --reader-args size=64 --sample

A file holds uint8 `images` (N, H, W) or (N, H, W, C) and `labels` (N,); for CelebA, attributes (N, 40) or nothing. A
reader is called with the published name of a split and returns the two. Images of another size are cropped to their
centre square and resized; the provenance record says so.
"""

USERS_OWN = ("arrays", "folder")  # every command prepares these from the user's files


def names() -> list[str]:
    """The named sets: those with a config."""
    return sorted(path.stem for path in (CONFIGS.main / "data").glob("*.yaml") if path.stem not in USERS_OWN)


def named_source(name: str) -> Source:
    """The source that ``configs/data/<name>.yaml`` describes."""
    if name not in names():
        raise LacunaError(f"There is no data set '{name}': choose one of {', '.join(names())}.")
    spec = yaml.safe_load((CONFIGS.main / "data" / f"{name}.yaml").read_text(encoding="utf-8"))
    source: Source = source_of(spec)
    return source


def reader_arguments(pairs: list[str]) -> dict[str, Any]:
    """``["size=64"]`` -> ``{"size": 64}``."""
    if any("=" not in pair for pair in pairs):
        raise LacunaError(f"--reader-args {' '.join(pairs)}: give KEY=VALUE.")
    return {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    typed = command_text("prepare")
    about, layout = ABOUT.format(prepare=typed), argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(prog=typed, description=about, formatter_class=layout)
    made.add_argument("name", help=f"one of {', '.join(names())}")
    made.add_argument("--root", type=Path, default=Path("outputs/data"), help="the data folder (default: %(default)s)")
    made.add_argument("--no-download", action="store_true", help="do not use the network")
    made.add_argument("--force", action="store_true", help="replace a set that is already prepared")
    arrays = made.add_argument_group("from arrays instead of the original files")
    arrays.add_argument("--train", type=Path, metavar="FILE", help=".npz with images and labels, or .npy with images")
    arrays.add_argument("--test", type=Path, metavar="FILE")
    arrays.add_argument("--validation", type=Path, metavar="FILE")
    arrays.add_argument("--reader", metavar="FILE.py:FUNCTION", help="is given the split, returns images and labels")
    arrays.add_argument("--reader-args", nargs="+", default=[], metavar="KEY=VALUE", help="passed to the reader")
    arrays.add_argument("--sample", action="store_true", help="the arrays are not the whole set")
    arrays.add_argument("--lossy", action="store_true", help="their pixels went through lossy compression")
    arrays.add_argument("--note", default="", help="a remark, shown with the results")
    return made


def prepare(arguments: argparse.Namespace) -> PreparedData:
    """Prepare the set that the command line names.

    Raises:
        LacunaError: an unknown set, or options or arrays that do not fit it.
    """
    source = named_source(arguments.name)
    files = {split: getattr(arguments, split) for split in ("train", "validation", "test")}
    files = {split: path for split, path in files.items() if path is not None}
    if not files and not arguments.reader:
        return source.prepare(arguments.root, not arguments.no_download, force=arguments.force)
    if files and (arguments.reader or not {"train", "test"} <= set(files)):
        raise LacunaError("Give --train and --test (and maybe --validation), or --reader.")
    if PreparedData.exists(source.folder(arguments.root)) and not arguments.force:
        print("Already prepared, the arrays are not read: --force replaces it.")
        return PreparedData(source.folder(arguments.root))

    def content() -> Any:
        if arguments.reader:
            extra = reader_arguments(arguments.reader_args)
            read, origin = reader_arrays.load_reader(arguments.reader), arguments.reader
            arrays = reader_arrays.from_reader(source, read, **extra)
        else:
            arrays = {split: reader_arrays.from_file(path) for split, path in files.items()}
            origin = ", ".join(path.name for path in files.values())
        return reader_arrays.content_of(
            source,
            arrays,
            origin=f"arrays from {Path(origin).name}",
            sample=arguments.sample,
            lossy=arguments.lossy,
            note=arguments.note,
        )

    return source.prepare_from(arguments.root, content, force=arguments.force)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns 0: done, 2: an error that the user can correct."""
    try:
        prepared = prepare(parser().parse_args(argv))
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    about = prepared.provenance
    counts = ", ".join(f"{about.counts[split]} {split}" for split in prepared.splits)
    kind = ("complete set" if about.complete else "SAMPLE") + ("" if about.lossless else ", LOSSY")
    print(f"{prepared.folder}: {counts}; images {about.shape}; {kind}; fingerprint {about.fingerprint}")
    if about.note:
        print(f"  {about.note}")
    return 0
