"""Commands by QEMU's guest agent: `guest-exec` of a shell, its input and output through files of the guest.

Preconditions: the guest runs and its agent offers guest-exec and guest-file-*. On success and on failure nothing of
ours is left in the guest, as long as its agent answers. What the agent says is a guest's word: types and sizes are
checked.
QEMU Guest Agent Protocol Reference: guest-exec, guest-exec-status, guest-file-open, -read, -write, -close.
"""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any

from workbench.errors import AgentError, AgentMissingError, GuestError, OutcomeUnknownError, WorkbenchError
from workbench.guest.agent import Agent
from workbench.guest.connection import Guest
from workbench.inside.guestside import AGENT, KILL, MAKE, REMOVE, TELL
from workbench.inside.ran import Ran

__all__ = ["offers_commands", "run_by_agent"]

_LIMIT = 10.0
"""Seconds for the agent to answer one question."""
_PIECE = 48 << 10
"""Bytes written or read with one question. Nobody answers a question of 256 KiB (seen on libvirt 9.0, QEMU 7.2)."""
_SMALL = 48 << 10
"""Bytes that go with the beginning of a command and come with its end; more goes through files."""
_NEEDED = {f"guest-{each}" for each in ("exec", "exec-status", "file-open", "file-close", "file-read", "file-write")}
_FOLDER = re.compile(r"(?:/tmp|/var/tmp|/dev/shm|/run)/\.rwb-[0-9a-f]{16}")
_ENDING = 10.0
_FIRST_LOOK, _LATER_LOOKS = 0.03, 0.25
"""Seconds between looks whether a command has ended: under TCG each takes some 10 ms of the processor that it needs."""


def offers_commands(guest: Guest) -> bool:
    """Tell whether the guest has an agent that answers and runs commands."""
    try:
        offered = _first_answer(Agent(guest), "guest-info", limit=2.0).get("supported_commands")
    except GuestError:
        return False
    if not isinstance(offered, list):
        return False
    found = {str(each.get("name")) for each in offered if isinstance(each, dict) and each.get("enabled") is True}
    return found >= _NEEDED


def _first_answer(agent: Agent, command: str, **words: Any) -> dict[str, Any]:
    """Ask; of a clone that has just begun to run libvirt may not know yet that its agent is there."""
    try:
        return agent.typed(dict, command, **words)
    except AgentMissingError:
        if not agent.appears():
            raise
        return agent.typed(dict, command, **words)


def run_by_agent(guest: Guest, script: bytes, stdin: bytes, *, timeout: float, max_output: int) -> Ran:
    """Run a shell script in the guest by its agent.

    Raises
    ------
    AgentMissingError
        There is none.
    AgentError, GuestError
        It does not run commands, or what it says cannot be.
    OutcomeUnknownError
        If a command does not end though it was killed.
    """
    began, agent, name = time.monotonic(), Agent(guest), secrets.token_hex(8)
    with _swept(agent, name) as done:
        program = _program(agent, name, script, stdin)
        pid = _begin(agent, program, name, str(max_output + 1), str(_SMALL))
        answer, killed = _wait(agent, pid, time.monotonic() + timeout), None
        if answer is None:
            killed = _call(agent, KILL, name).get("exitcode") == 0
            answer = _wait(agent, pid, time.monotonic() + _ENDING)
        if answer is None:
            raise OutcomeUnknownError(f"a command in {guest.name} does not end though it was killed")
        code, sizes, (out, err) = _read(agent, name, answer, max_output)
        done.append(sum(sizes) <= _SMALL)  # then its end has removed the folder
    return Ran(
        None if killed is not None else code,
        out,
        err,
        time.monotonic() - began,
        "agent",
        timed_out=killed is not None,
        killed=bool(killed),
        truncated=max(sizes) > max_output,
    )


@contextlib.contextmanager
def _swept(agent: Agent, name: str) -> Iterator[list[bool]]:
    """Remove the folder of one command at the end, unless the body says that it is gone."""
    done: list[bool] = []
    try:
        yield done
    finally:
        if not any(done):
            with contextlib.suppress(WorkbenchError):
                _call(agent, REMOVE, name)


def _program(agent: Agent, name: str, script: bytes, stdin: bytes) -> bytes:
    """Return what the shell is told: the folder, the command and its input, and what carries it out."""
    if len(script) + len(stdin) <= _SMALL:
        return MAKE.encode() + _holding_script(script) + (_holding_input(stdin) if stdin else b"") + AGENT.encode()
    folder = _folder(agent, name, _data(_call(agent, MAKE + TELL, name), "out-data"))
    _write(agent, f"{folder}/cmd", script)
    _write(agent, f"{folder}/in", stdin)
    return f"d={folder}\ncd /\n{AGENT}".encode()


def _holding_script(script: bytes) -> bytes:
    quoted = script.replace(b"'", b"'\\''")
    return b"printf %s '" + quoted + b'\' >"$d/cmd"\n'


def _holding_input(data: bytes) -> bytes:
    return b'base64 -d >"$d/in" <<.\n' + base64.encodebytes(data) + b".\n"


def _folder(agent: Agent, name: str, told: bytes) -> str:
    found = told.decode("ascii", "replace").strip()
    if not _FOLDER.fullmatch(found) or not found.endswith(name):
        raise GuestError(f"{agent.guest.name} has no directory to work in", cure="Make /tmp writable in it")
    return found


def _begin(agent: Agent, program: bytes, *words: str) -> int:
    told = _first_answer(
        agent,
        "guest-exec",
        limit=_LIMIT,
        path="/bin/sh",
        arg=["-s", *words],
        input_data=base64.b64encode(program).decode(),
        capture_output=True,
    )
    pid = told.get("pid")
    if type(pid) is not int:
        raise AgentError(f"the agent of {agent.guest.name} began a command and does not say which")
    return pid


def _wait(agent: Agent, pid: int, until: float) -> dict[str, Any] | None:
    """Return the agent's word of a command that ended; None where it runs on."""
    pause = _FIRST_LOOK
    while True:
        time.sleep(max(0.0, min(pause, until - time.monotonic())))
        answer: dict[str, Any] = agent.typed(dict, "guest-exec-status", limit=_LIMIT, pid=pid)
        if answer.get("exited") is True:
            return answer
        if time.monotonic() >= until:
            return None
        pause = min(_LATER_LOOKS, pause * 1.15)


def _call(agent: Agent, program: str, *words: str) -> dict[str, Any]:
    """Run a short program of ours to its end."""
    answer = _wait(agent, _begin(agent, program.encode(), *words), time.monotonic() + _LIMIT)
    if answer is None:
        raise OutcomeUnknownError(f"a shell of {agent.guest.name} does not end")
    return answer


def _read(
    agent: Agent, name: str, answer: dict[str, Any], most: int
) -> tuple[int, tuple[int, int], tuple[bytes, bytes]]:
    """Return exit code, sizes, and the first `most` bytes of output and errors."""
    if answer.get("exitcode") == 3:
        _folder(agent, name, b"")
    head, _, rest = _data(answer, "out-data").partition(b"\n")
    told = re.fullmatch(rb"(\d{1,3}) (\d{1,10}) (\d{1,10}) (\S{1,60})", head)
    if told is None:
        raise AgentError(f"what {agent.guest.name} says of a command cannot be understood", found=repr(head[:80]))
    code, *sizes = (int(each) for each in told.groups()[:3])
    if sum(sizes) <= _SMALL:
        found = [rest, _data(answer, "err-data")]
    else:
        folder = _folder(agent, name, told[4])
        found = [_file(agent, f"{folder}/{part}", size) for part, size in zip(("out", "err"), sizes, strict=True)]
    if [len(each) for each in found] != sizes:
        raise AgentError(f"output of a command in {agent.guest.name} is shorter than it was", expected=sizes)
    return code, (sizes[0], sizes[1]), (found[0][:most], found[1][:most])


def _data(answer: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(str(answer.get(name, "")), validate=True)
    except ValueError as error:
        raise AgentError("an agent sends data that is no base64") from error


@contextlib.contextmanager
def _opened(agent: Agent, path: str, mode: str) -> Iterator[int]:
    handle = agent.typed(int, "guest-file-open", limit=_LIMIT, path=path, mode=mode)
    try:
        yield handle
    finally:
        with contextlib.suppress(WorkbenchError):
            agent.ask("guest-file-close", limit=_LIMIT, handle=handle)


def _write(agent: Agent, path: str, data: bytes) -> None:
    with _opened(agent, path, "w") as handle:
        for start in range(0, len(data), _PIECE):
            part = data[start : start + _PIECE]
            while part:
                told = agent.typed(
                    dict, "guest-file-write", limit=_LIMIT, handle=handle, buf_b64=base64.b64encode(part).decode()
                )
                count = told.get("count")
                if type(count) is not int or not 0 < count <= len(part):
                    raise AgentError(f"{agent.guest.name} does not take what is written", path=path, found=count)
                part = part[count:]
        agent.ask("guest-file-flush", limit=_LIMIT, handle=handle)


def _file(agent: Agent, path: str, size: int) -> bytes:
    found = bytearray()
    with _opened(agent, path, "r") as handle:
        while len(found) < size:
            told = agent.typed(
                dict, "guest-file-read", limit=_LIMIT, handle=handle, count=min(_PIECE, size - len(found))
            )
            piece = _data(told, "buf-b64")
            if not piece:
                break
            found += piece
    return bytes(found[:size])
