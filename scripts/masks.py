"""Draw every mask scheme on real images: one PNG (MisConv, figure 4).

python scripts/masks.py                                  digits, 8x8, no download
python scripts/masks.py --data mnist --out masks.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image, ImageDraw, ImageFont

from lacuna import files
from lacuna.data.incomplete import IncompleteImages
from lacuna.data.module import IncompleteData
from lacuna.errors import LacunaError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SCHEMES = ("none", "square", "trapezoid", "noise", "bernoulli")
MISSING = (86, 124, 190)  # colour of missing pixels; not grey
MARGIN, TITLE = 6, 130


def config(group: str, name: str) -> dict[str, object]:
    """A config file of a group as a dict."""
    path = CONFIGS / group / f"{name}.yaml"
    if not path.is_file():
        choices = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise LacunaError(f"There is no {group} '{name}': choose one of {choices}.")
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def row(images: IncompleteImages, count: int, side: int) -> np.ndarray:
    """The first ``count`` images side by side, missing pixels coloured: uint8 (side, width, 3)."""
    batch = images.batch(torch.arange(count))
    missing = torch.tensor(MISSING) / 255
    coloured = torch.where(batch.mask, batch.observed, missing[:, None, None]).permute(0, 2, 3, 1)
    tiles = [Image.fromarray((tile.numpy() * 255).round().astype(np.uint8)) for tile in coloured]
    strip = Image.new("RGB", (count * (side + MARGIN), side), "white")
    for i, tile in enumerate(tiles):
        strip.paste(tile.resize((side, side), Image.Resampling.NEAREST), (i * (side + MARGIN), 0))
    return np.asarray(strip)


def draw(data: str, root: Path, download: bool, count: int, seed: int) -> Image.Image:
    """One row per scheme, with its settings on the left."""
    rows, titles = [], []
    for name in SCHEMES:
        module = IncompleteData(
            config("data", data), config("mask", name), root=root, download=download, mask_seed=seed
        )
        size = module.shape[1]
        rows.append(row(module.test, min(count, len(module.test)), size * max(1, 112 // size)))
        titles.append("\n".join([name, *(f"{key} {value}" for key, value in vars(module.scheme).items() if value)]))
    height = rows[0].shape[0] + MARGIN
    picture = Image.new("RGB", (TITLE + rows[0].shape[1], height * len(rows) + MARGIN), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for i, (strip, title) in enumerate(zip(rows, titles, strict=True)):
        pen.multiline_text((MARGIN, MARGIN + i * height), title, fill="black", font=font)
        picture.paste(Image.fromarray(strip), (TITLE, MARGIN + i * height))
    return picture


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns 0: done, 2: an error that the user can correct."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="a name from configs/data (default: %(default)s)")
    parser.add_argument("--root", type=Path, default=Path("outputs/data"), help="the data folder")
    parser.add_argument("--no-download", action="store_true", help="do not use the network")
    parser.add_argument("--out", type=Path, default=Path("outputs/masks.png"), help="the PNG to write")
    parser.add_argument("--count", type=int, default=8, help="images per row")
    parser.add_argument("--seed", type=int, default=0, help="of the masks")
    arguments = parser.parse_args(argv)
    try:
        if arguments.count < 1:
            raise LacunaError(f"--count {arguments.count} must be at least 1.")
        picture = draw(arguments.data, arguments.root, not arguments.no_download, arguments.count, arguments.seed)
        with files.replacing(arguments.out) as temporary:
            picture.save(temporary, format="PNG", optimize=True)
    except LacunaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
