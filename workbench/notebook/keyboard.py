"""What a key of a page is to a guest: the bytes that a terminal sends for it.

Names of keys are those of the UI Events standard (https://www.w3.org/TR/uievents-key/), bytes those of
https://invisible-island.net/xterm/ctlseqs/ctlseqs.html. Refuses to send more of a paste than fits.
"""

from __future__ import annotations

import re

__all__ = ["LONGEST_PASTE", "key_bytes", "paste_bytes"]

LONGEST_PASTE = 65_536
"""Characters."""
_ARROWS = {"ArrowUp": "A", "ArrowDown": "B", "ArrowRight": "C", "ArrowLeft": "D", "Home": "H", "End": "F"}
_FROM_F5 = (15, 17, 18, 19, 20, 21, 23, 24)
_NAMED = {
    "Enter": "\r", "Backspace": "\x7f", "Tab": "\t", "Escape": "\x1b",
    "Insert": "\x1b[2~", "Delete": "\x1b[3~", "PageUp": "\x1b[5~", "PageDown": "\x1b[6~",
    **{f"F{number}": f"\x1bO{letter}" for number, letter in zip(range(1, 5), "PQRS", strict=True)},
    **{f"F{number}": f"\x1b[{code}~" for number, code in enumerate(_FROM_F5, 5)},
}  # fmt: skip
_UNSENT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def key_bytes(
    key: str, *, ctrl: bool = False, alt: bool = False, shift: bool = False, application: bool = False
) -> bytes:
    """Return what a key sends; nothing where it has no meaning to a terminal.

    Parameters
    ----------
    key : str
        `KeyboardEvent.key`.
    application : bool
        Whether the guest asked for the arrows' other form.
    """
    told = _told(key, ctrl=ctrl, shift=shift, application=application)
    return (f"\x1b{told}" if alt and told else told).encode("utf-8", "replace")


def _told(key: str, *, ctrl: bool, shift: bool, application: bool) -> str:
    if key in _ARROWS:
        return f"\x1b{'O' if application else '['}{_ARROWS[key]}"
    if key == "Tab" and shift:
        return "\x1b[Z"
    if key in _NAMED:
        return _NAMED[key]
    if len(key) != 1:
        return ""
    if ctrl:
        return _control(key)
    return key


def _control(key: str) -> str:
    """Return the control character of a key: Ctrl-A is 1, Ctrl-Space is 0, Ctrl-? is DEL."""
    if key == "?":
        return "\x7f"
    code = ord(" " if key == " " else key.upper())
    return "\0" if code == 32 else chr(code & 0x1F) if 64 <= code < 96 else ""


def paste_bytes(text: str) -> bytes:
    """Return a pasted text as typed: lines end with Enter, control characters are left out, the rest cut."""
    lines = text[:LONGEST_PASTE].replace("\r\n", "\r").replace("\n", "\r")
    return _UNSENT.sub("", lines).encode("utf-8", "replace")
