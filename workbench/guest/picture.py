"""What a guest's screen shows, as PNG.

libvirt gives the picture as PNG or, where QEMU makes none, as PPM, which becomes PNG here. The guest chooses its size:
refuses more bytes than a large screen has, and whatever is neither.

PPM: https://netpbm.sourceforge.net/doc/ppm.html. PNG: https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from typing import TYPE_CHECKING

from workbench.errors import GuestError
from workbench.guest import virt
from workbench.guest.connection import Guest, translate

if TYPE_CHECKING:
    import libvirt

__all__ = ["png_of", "screenshot"]

_MOST = 128 << 20
_READ = 1 << 18
_PNG = b"\x89PNG\r\n\x1a\n"
_PPM = re.compile(rb"P6\s(?:#[^\n]{0,200}\n)?(\d{1,5})\s(\d{1,5})\s255\s")
_NO_SCREEN = "Give the guest a video card (<video> in its XML)"


def screenshot(guest: Guest) -> bytes:
    """Return a picture of the guest's first screen, as PNG.

    Raises
    ------
    GuestError
        If it has no screen, or its picture is none.
    """
    with translate(f"taking a picture of the screen of {guest.name}", _NO_SCREEN):
        stream = guest.hypervisor.connection.newStream(0)
        guest.domain.screenshot(stream, 0, 0)
        return png_of(_read(stream))


def _read(stream: libvirt.virStream) -> bytes:
    parts, size = [], 0
    while part := stream.recv(_READ):
        parts.append(part)
        size += len(part)
        if size > _MOST:
            with contextlib.suppress(virt.libvirtError):
                stream.abort()
            raise GuestError("the picture of a screen is too large", most=_MOST)
    stream.finish()
    return b"".join(parts)


def png_of(picture: bytes) -> bytes:
    """Return a picture, PNG or binary PPM with 8 bits a channel, as PNG.

    Raises
    ------
    GuestError
        If it is neither, or shorter than it says.
    """
    if picture.startswith(_PNG):
        return picture
    head = _PPM.match(picture)
    if head is None:
        raise GuestError("the picture of a screen is neither PNG nor PPM", begins=picture[:16])
    width, height = int(head[1]), int(head[2])
    row = 3 * width
    if not row * height or len(picture) < head.end() + row * height:
        raise GuestError("the picture of a screen is shorter than it says", width=width, height=height)
    # Each row of PNG begins with its filter; 0 is none.
    lines = (b"\0" + picture[at : at + row] for at in range(head.end(), head.end() + row * height, row))
    body = zlib.compress(b"".join(lines), 6)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB, not interlaced
    return _PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
