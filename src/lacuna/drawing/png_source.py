"""Pictures inside a page: as the address of an image that holds its own data. No torch in here."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from lacuna.errors import LacunaError


def png_source(image: Image.Image | bytes | Path) -> tuple[str, int, int]:
    """A picture (PIL, or the bytes or path of a PNG file) as ``data:`` address, with its width and height in pixels.

    Raises:
        LacunaError: what is no PNG image, or cannot be read.
    """
    data = _png(image)
    with Image.open(io.BytesIO(data)) as opened:
        width, height = opened.size
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii"), width, height


def _png(image: Image.Image | bytes | Path) -> bytes:
    if isinstance(image, Image.Image):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()
    if isinstance(image, bytes):
        data, name = image, "a picture"
    else:
        name = str(image)
        try:
            data = image.read_bytes()
        except OSError as error:
            raise LacunaError(f"The picture {name} cannot be read ({error.strerror}): make it again.") from error
    if not data.startswith(b"\x89PNG\r\n"):
        raise LacunaError(f"{name} for the page is not a PNG image: save it as PNG.")
    return data
