"""The guard: a process that outlives the capturing one and puts the guest right if that one dies.

It has its own libvirt connection and session, and waits on a socket. It acts when the socket closes without a
farewell, or when a pause outlasts its limit:

- armed for a capture: the guest is resumed, and for a second resumed again, since libvirt may still carry out a
  `stop` that the dead process had sent;
- armed for a rewind: the recovery command is run (it takes the guest back to the safety capture), never a plain
  resume of a half rewound guest. A process that hangs half way is killed first: it holds the claim and the lock that
  the recovery needs, and must not write on beside it;
- told of a freeze, it thaws the guest's file systems at the limit, or at the death of the other end, and does not
  leave off before the agent says that they are thawed, or the guest is gone: also after a farewell;
- then whatever of ours is left in QEMU is swept;
- where libvirt itself is gone, the guest is resumed over its monitor's own socket, and all else waits for another
  daemon: a guest is gone only when its QEMU is. A farewell in a pause whose end could not be told is taken for the
  death that it is to the guest.

It shares the claim on the guest until it has done so: a session that began earlier would have its own pause ended and
its jobs swept. A recovery inherits the claim: nobody begins on a half rewound guest before it does. The claim is given
back where no agent answers a thaw that is left.

Refuses to touch a guest that it was not armed for: a pause or a freeze made by somebody else stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.capture.thaw import Thawing
from workbench.errors import CaptureError, GuestError, GuestGoneError, HypervisorLostError, WorkbenchError
from workbench.guest.agent import Agent
from workbench.guest.claim import Claim
from workbench.guest.connection import Guest
from workbench.guest.disks import resume_after_io_error
from workbench.guest.leftovers import sweep
from workbench.guest.orphan import resume_orphan
from workbench.guest.reach import Reach

__all__ = ["Guard", "GuardThaw"]

_WATCH_AFTER_DEATH = 1.0
_LOOKS_AFTER_DEATH = 20
"""Answers from QEMU in that time at least: a libvirt that is slow carries out a late `stop` later, too."""
_TRY_AFTER_DEATH = 60.0
"""Seconds for which a resume that fails is tried again, where nobody is left to be told."""
_TRY_AGAIN = 0.05
_LATE_STOP = 10.0
"""Seconds after the limit in which a `stop` that was under way, or that its process sends late, is still undone."""
_LOOK_FOR_LIBVIRT = 0.2
_RECOVERIES = (1.0, 2.0, 5.0, 10.0, 0.0)
"""Seconds after a recovery that failed before it is run again: it can be run at any time."""
_SETTLE = 3.0
"""Seconds for which a thaw keeps the claim: a session that began earlier would have its own freeze ended by it."""
_START_LIMIT = 30.0
_ANSWER_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class GuardThaw:
    """What the guard did about a freeze.

    Attributes
    ----------
    began_ns : int or None
        When it began to thaw, by the host's monotonic clock; None where it did not have to.
    count : int
        File systems that it thawed so far.
    settled : bool
        Whether nothing is left to be done.
    """

    began_ns: int | None
    count: int
    settled: bool


class Guard:
    """The capturing process's end of the guard of one guest.

    Preconditions: the guest runs on a URI that a second process can open. The guard is alive before the first pause,
    and `arm` fails where it is not, so no pause happens unguarded.

    Raises
    ------
    CaptureError
        If the guard does not come up, or is not there any more when it is needed.
    """

    def __init__(self, guest: Guest, claim: Claim) -> None:
        self.armed = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = [
            sys.executable,
            "-m",
            "workbench.capture.guard",
            str(theirs.fileno()),
            guest.uri,
            guest.id,
            str(os.getpid()),
            str(claim.fileno()),
        ]
        with theirs:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno(), claim.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._socket = ours
        self._lines = ours.makefile("r", encoding="utf-8")
        if self._read(_START_LIMIT).get("ready") is not True:
            self._end()
            raise CaptureError("the guard of the guest did not come up", cure="Run `workbench doctor`")

    def arm(self, limit: float, recovery: Sequence[str] | None = None) -> None:
        """From now on the guest is resumed (or `recovery` run) if we die or do not disarm within `limit` seconds.

        Raises
        ------
        CaptureError
            If the guard is gone or does not answer, or, armed again in a pause, has had to act in it.
        """
        self._send({"arm": limit, "recovery": list(recovery) if recovery else None})
        answer = self._read()
        if answer.get("acted"):
            raise _acted()
        if not answer.get("armed"):
            self._end()
            raise CaptureError(
                "the guard of the guest does not answer: no pause without it", cure="Start the session again"
            )
        self.armed = True

    def disarm(self) -> None:
        """Tell the guard that the pause is over.

        Raises
        ------
        CaptureError
            If the guard had to act meanwhile, or may have had to: what was taken in this pause is of no instant.
        """
        self.armed = False
        self._send({"disarm": True})
        acted = self._read().get("acted")
        if acted is None:
            self._end()
            raise CaptureError(
                "the guard of the guest does not answer, and may have resumed it during the pause",
                cure="The capture was dropped; start the session again",
            )
        if acted:
            raise _acted()

    def freezing(self, limit: float) -> None:
        """From now on the guest's file systems are thawed if we die or do not say `thawed` within `limit` seconds.

        Raises
        ------
        CaptureError
            If an earlier freeze is still being undone, or the guard does not answer: nothing may be frozen then.
        """
        self._send({"freezing": limit})
        if not self._read().get("guarded"):
            raise CaptureError("an earlier freeze is still being undone, or the guard does not answer")

    def thawed(self, *, take_over: bool = False) -> GuardThaw:
        """Tell the guard that the file systems are thawed, or, with `take_over`, to go on until they are.

        Raises
        ------
        CaptureError
            If it does not answer.
        """
        self._send({"thawed": not take_over})
        answer = self._read()
        if "settled" not in answer:
            raise CaptureError("the guard of the guest does not answer", cure="Start the session again")
        return GuardThaw(answer["began_ns"], answer["count"], answer["settled"])

    def close(self) -> None:
        """Say farewell; the guard sweeps nothing and ends, or stays alone until it has put right what it took over."""
        stays = False
        with contextlib.suppress(CaptureError):
            self._send({"bye": True})
            stays = bool(self._read().get("stays"))
        self._lines.close()
        self._socket.close()
        if stays:
            threading.Thread(target=self._process.wait, name="the guard's end", daemon=True).start()
            return
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _end(self) -> None:
        """End a guard that does not answer, so that it does nothing late."""
        self._lines.close()
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._socket.settimeout(_ANSWER_LIMIT)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise CaptureError(
                "the guard of the guest is gone: no pause without it", cure="Start the session again"
            ) from error

    def _read(self, limit: float | None = None) -> dict[str, Any]:
        try:
            self._socket.settimeout(limit or _ANSWER_LIMIT)
            answer: dict[str, Any] = json.loads(self._lines.readline() or "{}")
        except (OSError, ValueError):
            return {}
        return answer


def _acted() -> CaptureError:
    return CaptureError("the pause outlasted its limit and the guard resumed the guest", cure="The capture was dropped")


class _Watch:
    """The guard's own side: what it was last told, and what it does."""

    def __init__(self, channel: socket.socket, reach: Reach, watched: int, claim: socket.socket) -> None:
        self.channel = channel
        self.reach = reach
        self.watched = watched  # a pidfd of the process that is guarded
        self.claim = claim
        self.deadline: float | None = None
        self.recovery: list[str] | None = None
        self.acted_at: float | None = None  # when the limit of this pause was reached first
        self.over = False  # a recovery ran, and the claim with it: the guest may be another session's by now
        self.lost = False  # libvirt, when it was asked last
        self.parted = False
        self.freezing = False
        self.thaw_at: float | None = None
        self.thawing: Thawing | None = None
        self._asked: Agent | None = None

    @property
    def acted(self) -> bool:
        return self.acted_at is not None

    @property
    def guest(self) -> Guest:
        """The guest, by a connection that lives."""
        return self.reach.guest()

    def _agent(self) -> Agent:
        guest = self.guest
        if self._asked is None or self._asked.guest is not guest:
            self._asked = Agent(guest)
        return self._asked

    def run(self) -> None:
        """Follow messages until a farewell or the end of the socket."""
        self._answer({"ready": True})
        selector = selectors.DefaultSelector()
        selector.register(self.channel, selectors.EVENT_READ)
        buffer = b""
        while True:
            if not selector.select(self._patience()):
                self._at_a_limit()
                continue
            chunk = self._receive()
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b"\n")
            if any(self._obey(json.loads(line)) for line in lines):
                if self.deadline is None:
                    self._stay_for_the_thaw()
                    return
                break
        self._after_death()

    def _patience(self) -> float | None:
        limits = [each for each in (self.deadline, self.thaw_at) if each is not None]
        return max(0.0, min(limits) - time.monotonic()) if limits else None

    def _at_a_limit(self) -> None:
        now = time.monotonic()
        if self.thaw_at is not None and self.thaw_at <= now:
            self._thaw()
        if self.deadline is not None and self.deadline <= now:
            self._at_the_limit()

    def _thaw(self) -> None:
        """Begin to thaw, unless that is under way."""
        self.thaw_at = None
        if self.thawing is None or self.thawing.settled:
            self.thawing = Thawing(self._agent)

    def _release_unless_settled(self) -> None:
        """Wait a little for a thaw that is under way; one that no agent answers needs no claim."""
        if self.thawing is not None and not self.thawing.wait(_SETTLE):
            self.claim.close()

    def _stay_for_the_thaw(self) -> None:
        if self.thawing is not None:
            self.thawing.wait()

    def _receive(self) -> bytes:
        try:
            return self.channel.recv(65536)
        except OSError:
            return b""

    def _answer(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.channel.sendall(json.dumps(message).encode() + b"\n")

    def _obey(self, message: dict[str, Any]) -> bool:
        if "arm" in message:
            if not self.acted:
                self.deadline = time.monotonic() + float(message["arm"])
                self.recovery = message["recovery"]
            self._answer({"armed": not self.acted, "acted": self.acted})
        elif "disarm" in message:
            self._answer({"acted": self.acted})
            self.deadline = self.recovery = None
            self.acted_at = None
        elif "freezing" in message:
            self._answer({"guarded": self._guard_freeze(float(message["freezing"]))})
        elif "thawed" in message:
            self._end_freeze(told=bool(message["thawed"]))
        elif "bye" in message:
            self.parted = True
            if self.freezing:
                self._thaw()
            if self.deadline is None:
                self._release_unless_settled()
            thaws = self.thawing is not None and not self.thawing.settled
            self._answer({"stays": thaws or self.deadline is not None})
        return "bye" in message

    def _guard_freeze(self, limit: float) -> bool:
        if self.thawing is not None and not self.thawing.settled:
            return False
        self.thawing = None
        self.freezing, self.thaw_at = True, time.monotonic() + limit
        return True

    def _end_freeze(self, *, told: bool) -> None:
        self.freezing, self.thaw_at = False, None
        if not told:
            self._thaw()
        thawing = self.thawing
        if thawing is None:
            self._answer({"began_ns": None, "count": 0, "settled": True})
        else:
            self._answer({"began_ns": thawing.began_ns, "count": thawing.count, "settled": thawing.settled})

    def _at_the_limit(self) -> None:
        now = time.monotonic()
        self.acted_at = first = self.acted_at or now
        if self.recovery is not None:
            self._recover()
            self.deadline = None
        else:
            done = self._resume() and now - first >= _LATE_STOP
            self.deadline = None if done else now + _TRY_AGAIN

    def _after_death(self) -> None:
        if self.freezing:
            self._thaw()
        self._put_right()
        self._release_unless_settled()
        self._stay_for_the_thaw()

    def _put_right(self) -> None:
        if self.over:
            return
        if self.deadline is not None and self.recovery is not None:
            self._recover()
            return
        if self.deadline is not None:
            self._keep_running()
        else:
            self._until_reached()
        with contextlib.suppress(GuestError):
            if any(each.startswith("job ") for each in sweep(self.guest.monitor)):
                resume_after_io_error(self.guest.monitor)

    def _recover(self) -> None:
        """Run the recovery, with nobody beside it, and again where it fails."""
        assert self.recovery is not None
        if not self.parted:  # one that took its leave works on nothing any more, and may be somebody's notebook
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.watched, signal.SIGKILL)
        claim = [each for each in [self.claim.fileno()] if each >= 0]  # a thaw may have had to give it back
        command = [*self.recovery, *map(str, claim)]
        for pause in _RECOVERIES:
            self._until_reached()
            if subprocess.run(command, check=False, stdin=subprocess.DEVNULL, pass_fds=claim).returncode == 0:
                break
            time.sleep(pause)
        self.claim.close()
        self.recovery, self.over = None, True

    def _until_reached(self) -> None:
        """Wait for libvirt where it is gone, as long as the guest's QEMU is there."""
        while True:
            try:
                self.guest.is_running()
            except HypervisorLostError:
                time.sleep(_LOOK_FOR_LIBVIRT)
            except WorkbenchError:
                return
            else:
                return

    def _keep_running(self) -> None:
        """Resume the guest now, and again if a late `stop` of the dead process arrives."""
        began, looks = time.monotonic(), 0
        while True:
            looks += self._resume()
            if self.lost:
                began, looks = time.monotonic(), 0
            passed = time.monotonic() - began
            if passed >= (_WATCH_AFTER_DEATH if looks >= _LOOKS_AFTER_DEATH else _TRY_AFTER_DEATH):
                return
            time.sleep(_LOOK_FOR_LIBVIRT if self.lost else 0.02)

    def _resume(self) -> bool:
        """Resume the guest if it stands, with or without libvirt; tell whether it runs, or has ended."""
        try:
            self._let_run()
        except GuestGoneError:
            return True
        except WorkbenchError:
            return False
        return True

    def _let_run(self) -> None:
        self.lost = False
        try:
            guest = self.guest
            if not guest.is_running():
                guest.let_run()
        except HypervisorLostError:
            self.lost = True
            resume_orphan(self.reach.uuid)


def main(arguments: Sequence[str]) -> None:
    """Run the guard: `guard.py DESCRIPTOR URI UUID PID CLAIM`."""
    descriptor, uri, uuid, pid, claimed = arguments
    try:
        watched = os.pidfd_open(int(pid))
    except ProcessLookupError:
        return  # killed before its guard was up: it has not paused anything yet
    channel, claim = (socket.socket(fileno=int(each)) for each in (descriptor, claimed))
    with claim, contextlib.closing(Reach(uri, uuid)) as reach:
        _Watch(channel, reach, watched, claim).run()


if __name__ == "__main__":
    main(sys.argv[1:])
