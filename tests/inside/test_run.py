"""Commands in a clone, by its agent and by its console: the same results both ways, and nothing left behind."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from workbench.case import Clone, Ran
from workbench.demo.supervisor import Supervisor
from workbench.errors import CommandError, CommandTimeoutError, GuestError, UsageError
from workbench.inside.ran import How

pytestmark = pytest.mark.guest

LEFT = "ls -A /tmp /var/tmp /dev/shm /run | grep rwb | grep -v $(basename $(dirname $0)); ps | grep -c '[.]rwb-.*serve'"
"""Asked by the agent: what else of ours is in the guest, folders, and how many servers of a console."""


@pytest.fixture(params=["agent", "console"])
def how(request: pytest.FixtureRequest) -> How:
    """Each way to run a command."""
    found: How = request.param
    return found


def binary(size: int) -> bytes:
    """Bytes of every value, without a rhythm that a lost piece could hide in."""
    return random.Random(size).randbytes(size)


def test_a_command_that_fails_is_a_result_with_its_output_and_its_errors_apart(clone: Clone, how: How) -> None:
    ran = clone.run("echo out; echo err >&2; exit 7", how=how)
    assert (ran.exit_code, ran.stdout, ran.stderr, ran.how) == (7, b"out\n", b"err\n", how)
    with pytest.raises(CommandError) as caught:
        ran.check()
    assert caught.value.ran is ran


def test_words_are_words_whatever_is_in_them(clone: Clone, how: How) -> None:
    words = ["printf", "%s\\n", "a b", "$(id)", "it's", "*", "-n", "\N{SNOWMAN}\x1b[2J"]
    assert clone.run(words, how=how).text == "".join(f"{word}\n" for word in words[2:])


def test_every_byte_comes_and_goes(clone: Clone, how: How) -> None:
    content = bytes(range(256)) * 3 + b"\n\n"
    said = bytes(each for each in range(1, 256) if each != ord("'")) + b"\n"
    script = f"cat; head -c 3 /dev/zero >&2; printf %s '{os.fsdecode(said)}'"
    ran = clone.run(script, stdin=content, how=how)
    assert (ran.stdout, ran.stderr) == (content + said, bytes(3))


def test_it_works_in_the_root_directory_as_root_and_reads_nothing_by_default(clone: Clone, how: How) -> None:
    assert clone.run("pwd; id -u; cat", how=how).text == "/\n0\n"


def test_a_command_that_hangs_is_killed_and_what_it_had_said_is_told(clone: Clone, how: How) -> None:
    with pytest.raises(CommandTimeoutError) as caught:
        clone.run("echo begun; echo $$ >/root/hanging; sleep 1234; echo never", timeout=10, how=how)
    ran = caught.value.ran
    assert isinstance(ran, Ran)
    assert (ran.exit_code, ran.stdout, ran.timed_out, ran.killed) == (None, b"begun\n", True, True)
    assert clone.run("ps | grep -c '[s]leep 1234'; kill -0 $(cat /root/hanging)", how="agent").stdout == b"0\n"


@pytest.fixture
def little_room(clone: Clone) -> Iterator[None]:
    """A megabyte of room where the folder of a command is made."""
    with Supervisor(clone.socket("supervisor.sock")) as inside:
        assert inside.run("mount -t tmpfs -o size=1m none /tmp").rc == 0
        yield
        until(lambda: inside.run("umount /tmp").rc == 0, "nobody uses it")


@pytest.mark.usefixtures("little_room")
def test_a_flood_is_cut_where_it_was_asked_to_be_and_fills_nothing_and_the_command_does_not_notice(
    clone: Clone, how: How
) -> None:
    flood = "head -c 5000000 /dev/zero; echo $? >/root/flooded; ls -d /tmp/.rwb* >&2"
    ran = clone.run(flood, max_output=3000, timeout=60, how=how)
    assert (ran.stdout, ran.truncated, ran.exit_code) == (bytes(3000), True, 0)
    assert ran.stderr.startswith(b"/tmp/.rwb-")
    assert clone.run("cat /root/flooded", how="agent").stdout == b"0\n"


def test_output_up_to_the_limit_is_whole(clone: Clone, how: How) -> None:
    ran = clone.run("head -c 3000 /dev/zero; head -c 3000 /dev/zero >&2", max_output=3000, how=how)
    assert (ran.stdout, ran.stderr, ran.truncated) == (bytes(3000), bytes(3000), False)


def test_a_daemon_that_a_command_leaves_behind_is_not_waited_for(clone: Clone, how: How) -> None:
    ran = clone.run("sleep 600 & echo $! >/root/daemon; echo started", how=how, timeout=20)
    assert (ran.stdout, ran.exit_code) == (b"started\n", 0)
    assert clone.run("kill $(cat /root/daemon)", how="agent").ok


def test_files_are_put_and_had_with_their_mode(clone: Clone, how: How, tmp_path: Path) -> None:
    content = binary(700_000 if how == "agent" else 60_000)
    path = "/root/a file's"
    if how == "agent":  # from a file of the host
        (tmp_path / "content").write_bytes(content)
        clone.put(path, tmp_path / "content", 0o751, how=how)
    else:
        clone.put(path, content, 0o751, how=how)
    seen = clone.run(f"""sha256sum <"{path}"; stat -c %a "{path}" """, how="agent").text.split()
    assert seen == [hashlib.sha256(content).hexdigest(), "-", "751"]
    assert clone.get(path, how=how) == content


def test_what_is_no_file_is_refused_and_what_was_there_stays(clone: Clone) -> None:
    clone.run("echo old >/root/kept").check()
    for path in ("/root", "/no/such/directory/file"):
        with pytest.raises(GuestError):
            clone.put(path, b"new")
        with pytest.raises(GuestError):
            clone.get(path)
    with pytest.raises(GuestError, match="longer than 3 bytes"):
        clone.get("/root/kept", max_bytes=3)
    with pytest.raises(UsageError):
        clone.get("relative")
    assert clone.get("/root/kept") == b"old\n"


def test_nothing_is_left(clone: Clone, how: How) -> None:
    clone.run("true", how=how)
    until(lambda: clone.run(LEFT, how="agent").text == "0\n", "the server has cleaned up")


def test_the_way_is_the_agents_where_one_answers_and_else_the_consoles(clone: Clone) -> None:
    until(lambda: clone.run("true").how == "agent", "the agent answers")
    clone.run("killall -STOP qemu-ga", how="console")
    try:
        assert clone.run("true").how == "console"
    finally:
        clone.run("killall -CONT qemu-ga", how="console")
    until(lambda: clone.run("true").how == "agent", "the agent answers again")


def test_a_clone_that_stands_still_is_refused_at_once(clone: Clone) -> None:
    clone.pause()
    try:
        with pytest.raises(GuestError, match="stands still"):
            clone.run("true")
    finally:
        clone.resume()


@pytest.mark.parametrize(("cmd", "timeout"), [("", 1), ([], 1), ("true", 0), ("true\0", 1)])
def test_what_cannot_be_meant_is_refused(clone: Clone, cmd: str | list[str], timeout: float) -> None:
    with pytest.raises(UsageError):
        clone.run(cmd, timeout=timeout)


def test_freezing_says_the_clones_own_clock(clone: Clone) -> None:
    clone.run("date -u -s '2031-05-06 07:08:00'")
    try:
        told = clone.freeze()
        assert not clone.running
    finally:
        clone.resume()
    assert told is not None
    assert told.startswith("2031-05-06T07:08:")
