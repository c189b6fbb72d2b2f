"""16-bit PNG images of several channels: every filter, against an encoder written from the standard, and Pillow."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lacuna.data.sources import png16
from lacuna.verbs.command import verb

RNG = np.random.default_rng(0)


def encoded(pixels: np.ndarray, colour: int) -> bytes:
    """A file whose lines use the filters 0, 1, 2, 3, 4 in turn, byte by byte as the standard says."""
    height, width, channels = pixels.shape
    step, data = 2 * channels, bytearray()
    lines = [bytes(line) for line in pixels.astype(">u2").reshape(height, -1).view(np.uint8)]
    for y, line in enumerate(lines):
        data.append(y % 5)
        for x, byte in enumerate(line):
            a = line[x - step] if x >= step else 0
            b = lines[y - 1][x] if y else 0
            c = lines[y - 1][x - step] if y and x >= step else 0
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            data.append((byte - (0, a, b, (a + b) // 2, nearest)[y % 5]) % 256)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    content = png16.SIGNATURE
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(data))), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return content


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("size", [(11, 7), (6, 30), (1, 1)])
def test_every_filter_is_undone(colour, channels, size) -> None:
    pixels = RNG.integers(0, 2**16, (*size, channels), dtype=np.uint16)
    content = encoded(pixels, colour)
    assert png16.is_png16(content) and (png16.read(content) == pixels).all()
    upper = np.asarray(Image.open(io.BytesIO(content)))  # 8 bits; grey with alpha becomes RGB with alpha
    assert ((upper[..., [0, 3]] if channels == 2 else upper) == pixels >> 8).all()


def test_what_is_written_is_read_again_and_damage_is_found() -> None:
    pixels = RNG.integers(0, 2**16, (9, 5, 3), dtype=np.uint16)
    content = png16.write(pixels, icc_profile=b"colours")
    assert (png16.read(content) == pixels).all()
    assert Image.open(io.BytesIO(content)).info["icc_profile"] == b"colours"
    assert (np.asarray(Image.open(io.BytesIO(content))) == pixels >> 8).all()
    for damaged in (content[:-20], content[:80] + b"x" + content[81:]):
        with pytest.raises(ValueError, match=r"damaged|missing"):
            png16.read(damaged)
    grey = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(grey, "PNG")
    assert not png16.is_png16(grey.getvalue())


def test_impute_keeps_all_16_bits(tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    pixels = RNG.integers(0, 2**16, (12, 10, 4), dtype=np.uint16)
    observed = RNG.random((12, 10)) < 0.7
    pixels[..., 3] = observed * np.uint16(65535)
    (tmp_path / "mine" / "a.png").write_bytes(encoded(pixels, 6))
    words = ["imputer=nearest", f"input={tmp_path / 'mine'}", f"to={tmp_path / 'out'}"]
    assert verb("impute", "lacuna.verbs.impute:main")(words) == 0
    found = png16.read((tmp_path / "out" / "a.png").read_bytes())
    assert (found[observed] == pixels[observed][:, :3]).all()
    taken = {tuple(colour) for colour in pixels[observed][:, :3].tolist()}
    assert {tuple(colour) for colour in found[~observed].tolist()} <= taken
