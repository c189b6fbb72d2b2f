"""PNG images of several channels with 16 bits each (W3C, Portable Network Graphics), of which Pillow reads 8 bits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {2: 3, 4: 2, 6: 4}
"""Colour type -> channels: RGB, grey with alpha, RGB with alpha."""


def is_png16(content: bytes) -> bool:
    """Whether a file is such an image."""
    return content[:8] == SIGNATURE and len(content) > 25 and content[24] == 16 and content[25] in CHANNELS


def read(content: bytes) -> np.ndarray:
    """The pixels (H,W,C), uint16.

    Raises:
        ValueError: the file is damaged, or interlaced.
    """
    chunks = list(_chunks(content))
    width, height, _, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if interlaced:
        raise ValueError("16 bits, interlaced: save it without interlacing")
    if any(kind == b"tRNS" for kind, _ in chunks):
        raise ValueError("16 bits, one colour transparent: save it with an alpha channel")
    step = 2 * CHANNELS[colour]
    try:
        raw = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(raw) != height * (width * step + 1):
        raise ValueError("pixels are missing")
    lines = np.frombuffer(raw, np.uint8).reshape(height, -1)
    pixels = _unfiltered(lines[:, 1:].reshape(height, width, step), lines[:, 0])
    return pixels.view(">u2").astype(np.uint16)


def write(pixels: np.ndarray, icc_profile: bytes | None = None) -> bytes:
    """The content of a file with pixels (H,W,3), uint16."""
    height, width, _ = pixels.shape
    lines = np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8).reshape(height, -1)
    above = np.vstack([np.zeros_like(lines[:1]), lines[:-1]])
    filtered = np.hstack([np.full((height, 1), 2, np.uint8), lines - above])  # 2: differences to the line above
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    profile = [(b"iCCP", b"profile\0\0" + zlib.compress(icc_profile))] if icc_profile else []
    chunks = [(b"IHDR", header), *profile, (b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    return SIGNATURE + b"".join(parts)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        if content[place + 8 + length : place + 12 + length] != struct.pack(">I", zlib.crc32(kind + data)):
            raise ValueError(f"chunk {kind.decode('latin-1')} is damaged")
        yield kind, data
        place += 12 + length
        if kind == b"IEND":
            return
    raise ValueError("its end is missing")


def _unfiltered(coded: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Bytes (H,W,S) from the filtered ones and the kind of filter of each line (H,).

    A byte is predicted from the pixels to the left, above, and above to the left: so all of one diagonal at once.
    """
    if kinds.max(initial=0) > 4:
        raise ValueError("unknown filter")
    height, width, step = coded.shape
    found = np.zeros((height + 1, width + 1, step), np.int16)
    for diagonal in range(height + width - 1):
        row = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        column, kind = diagonal - row, kinds[row][:, None]
        left, above, corner = found[row + 1, column], found[row, column + 1], found[row, column]
        guess = left + above - corner
        far_left, far_above, far_corner = abs(guess - left), abs(guess - above), abs(guess - corner)
        paeth = np.where(far_above <= far_corner, above, corner)
        paeth = np.where((far_left <= far_above) & (far_left <= far_corner), left, paeth)
        predicted = np.select([kind == 1, kind == 2, kind == 3, kind == 4], [left, above, (left + above) // 2, paeth])
        found[row + 1, column + 1] = (coded[row, column] + predicted) & 255
    return np.ascontiguousarray(found[1:, 1:].astype(np.uint8))
