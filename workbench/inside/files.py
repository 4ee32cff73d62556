"""Files into a guest and out of it, by commands; each compared by its SHA-256 on the other side.

A file is put whole or not at all: beside its name first, then renamed. Refuses what is no plain file.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from pathlib import Path

from workbench.errors import GuestError, UsageError
from workbench.inside.ran import Ran

__all__ = ["get_file", "put_file"]

Run = Callable[..., Ran]
_PUT = """
path={path}
[ -d "$path" ] && {{ echo "is a directory" >&2; exit 21; }}
umask 077
new=$(mktemp "$path.rwb-XXXXXX") || exit 22
trap 'rm -f "$new"' EXIT
cat >"$new" || exit 23
found=$(sha256sum <"$new")
[ "${{found%% *}}" = {digest} ] || {{ echo "other bytes arrived" >&2; exit 24; }}
chmod {mode:o} "$new" && mv -f "$new" "$path"
"""
_GET = """
path={path}
[ -f "$path" ] || {{ echo "no plain file" >&2; exit 21; }}
copy=$(mktemp /tmp/.rwb-XXXXXX 2>/dev/null || mktemp /var/tmp/.rwb-XXXXXX) || exit 22
trap 'rm -f "$copy"' EXIT
head -c {most} "$path" >"$copy" || exit 23
sha256sum <"$copy" >&2
cat "$copy"
"""


def put_file(run: Run, path: str, data: bytes | Path, mode: int) -> None:
    """Write a file of the guest, its owner whoever the shell is.

    Raises
    ------
    UsageError
        If the path is not absolute, or the mode is none.
    GuestError
        If the guest cannot write it: what was there is there as before.
    """
    if not 0 <= mode <= 0o7777:
        raise UsageError("no mode of a file", found=mode)
    content = data.read_bytes() if isinstance(data, Path) else data
    script = _PUT.format(path=_quoted(path), digest=hashlib.sha256(content).hexdigest(), mode=mode)
    ran = run(script, stdin=content)
    if not ran.ok:
        raise GuestError(
            f"{path!r} could not be put: {_said(ran)}", cure="Look at its directory, and whether there is room"
        )


def get_file(run: Run, path: str, most: int) -> bytes:
    """Return the content of a file of the guest.

    Raises
    ------
    UsageError
        If the path is not absolute.
    GuestError
        If there is no such plain file, or it is longer than `most` bytes.
    """
    ran = run(_GET.format(path=_quoted(path), most=most + 1), max_output=most + 1)
    if not ran.ok:
        raise GuestError(
            f"{path!r} could not be had: {_said(ran)}", cure="See what is there with `clone.run('ls -l ...')`"
        )
    if len(ran.stdout) > most:
        raise GuestError(f"{path!r} is longer than {most} bytes", cure="Ask for more with `max_bytes`")
    expected, found = ran.stderr.split()[:1], hashlib.sha256(ran.stdout).hexdigest()
    if expected != [found.encode()]:
        raise GuestError(
            f"{path!r} arrived with other bytes",
            expected=b"".join(expected)[:64].decode("ascii", "replace"),
            found=found,
        )
    return ran.stdout


def _quoted(path: str) -> str:
    if not path.startswith("/") or "\0" in path or path.endswith("/"):
        raise UsageError("a file of a guest is named by its whole path", found=path)
    return shlex.quote(path)


def _said(ran: Ran) -> str:
    return ran.stderr.decode("ascii", "backslashreplace").strip()[-200:] or f"exit code {ran.exit_code}"
