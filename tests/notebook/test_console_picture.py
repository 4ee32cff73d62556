"""Pictures of a guest's screen: a PPM becomes the PNG of the same pixels, and what is no picture is refused."""

from __future__ import annotations

import struct
import zlib

import pytest

from workbench.errors import GuestError
from workbench.guest.picture import png_of


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_ppm_becomes_png_pixel_by_pixel() -> None:
    pixels = bytes(range(18))
    made = png_of(b"P6\n3 2\n255\n" + pixels)
    assert size_of(made) == (3, 2)
    at = made.index(b"IDAT") + 4
    rows = zlib.decompress(made[at : made.index(b"IEND") - 8])
    assert rows == b"\0" + pixels[:9] + b"\0" + pixels[9:]


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"GIF89a",
        b"P6\n3 2\n255\n123",
        b"P6\n0 2\n255\n",
        b"P6\n99999 99999\n255\n",
        b"P6\n3 2\n65535\n" + bytes(36),
    ],
)
def test_what_is_no_picture_is_refused(wrong: bytes) -> None:
    with pytest.raises(GuestError):
        png_of(wrong)
