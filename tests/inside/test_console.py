"""The console among others who write to it: the kernel, programs, a login prompt, a process of ours that died."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from waiting import until

from workbench.case import Case, Clone
from workbench.errors import GuestError, UsageError

pytestmark = pytest.mark.guest

NOISE = r"""
while [ -e /root/noise ]; do
    echo "<1>kernel: $RANDOM root login: Password: # " >/dev/kmsg
    printf 'noise\033[2J\rQUJD\n%s' "$RANDOM" >/dev/ttyS0
    usleep 150000
done
"""


@pytest.fixture
def noise(clone: Clone) -> Iterator[None]:
    """Others write to the console all the time, in the middle of lines too."""
    clone.put("/root/noisy", NOISE.encode(), how="agent")
    clone.run("dmesg -n 8; touch /root/noise; setsid sh /root/noisy >/dev/null 2>&1 </dev/null &", how="agent").check()
    yield
    clone.run("rm /root/noise; dmesg -n 4", how="agent").check()


@pytest.mark.usefixtures("noise")
def test_what_others_write_meanwhile_is_in_no_output(clone: Clone) -> None:
    content = random.Random(7).randbytes(12_000)
    ran = clone.run("cat; sleep 0.5; echo done >&2; exit 5", stdin=content, how="console", timeout=60)
    assert (ran.exit_code, ran.stderr) == (5, b"done\n")
    assert ran.stdout == content


def test_the_console_is_at_its_prompt_with_echo_afterwards(clone: Clone) -> None:
    clone.run("true", how="console")
    console = clone.console()
    console.write(b"\nstty -a >/root/modes\n")  # as a user would: a shell that edits its line has modes of its own
    clone.run("until [ -s /root/modes ]; do usleep 50000; done", how="agent", timeout=20)
    console.close()
    assert {"echo", "icanon"} <= set(clone.get("/root/modes", how="agent").decode().split())


def test_a_login_prompt_is_told_and_opened_on_request(clone: Clone) -> None:
    # Init is told to start a getty in place of the shell; the password is planted.
    secret = "pass word'"
    clone.run(["sh", "-c", 'printf "%s\\n%s\\n" "$0" "$0" | passwd root', secret], how="agent").check()
    clone.run("echo ttyS0 >>/etc/securetty; sed -i '/^ttyS0/s#-/bin/sh#/bin/getty -L 115200 ttyS0#' /etc/inittab")
    clone.run("kill -HUP 1; sleep 0.3; kill -9 $(ps | awk '/[-]\\/bin\\/sh$/ {print $1}')", how="agent").check()
    clone.wait_for("login: $", timeout=120)
    with pytest.raises(GuestError, match="nobody is logged in"):
        clone.run("true", how="console")
    assert clone.run("id -u", how="console", login=("root", secret)).text == "0\n"
    with pytest.raises(GuestError, match="does not take the login of 'root'") as caught:  # it was logged out again
        clone.run("true", how="console", login=("root", "wrong"))
    assert "wrong" not in str(caught.value)
    clone.run(
        "sed -i '/^ttyS0/s#:/bin/getty.*#:-/bin/sh#' /etc/inittab; kill -HUP 1; sleep 0.3; killall getty", how="agent"
    )
    assert clone.run("id -u", how="console").text == "0\n"


KILLED = """
import sys
from workbench.case import Case
with Case(sys.argv[1]) as case:
    clone, = (each for each in case.clones() if each.name == sys.argv[2])
    clone.run("touch /root/begun; sleep 300", how="console", timeout=200)
"""


def test_a_process_that_died_in_the_middle_leaves_a_console_that_works(inside_case: Case, clone: Clone) -> None:
    words = [sys.executable, "-c", KILLED, str(inside_case.path), clone.name]
    with subprocess.Popen(words) as process:
        clone.run("until [ -e /root/begun ]; do usleep 50000; done", how="agent", timeout=60)
        os.kill(process.pid, signal.SIGKILL)
    assert clone.run("echo still here", how="console").text == "still here\n"
    left = "ls -A /tmp | grep rwb | grep -v $(basename $(dirname $0)); ps | grep -c '[s]leep 300'"
    until(lambda: clone.run(left).text == "0\n", "what the dead one left is gone")


def test_words_at_the_console_are_waited_for_and_what_was_said_before_counts(clone: Clone) -> None:
    clone.run("echo 'ready: port 8080' >/dev/ttyS0", how="agent")
    assert clone.wait_for(r"ready: port (\d+)", timeout=60)[1] == "8080"
    with pytest.raises(GuestError, match="did not write it"):
        clone.wait_for("ready: port", timeout=0.2, since="now")
    clone.run(
        "(while sleep 1; do echo later-$((6*7)); done >/dev/ttyS0) >/dev/null 2>&1 & echo $! >/root/teller",
        how="agent",
    )
    assert clone.wait_for(re.compile(r"later-(42)"), timeout=60, since="now")
    clone.run("kill $(cat /root/teller)", how="agent").check()
    with pytest.raises(GuestError, match="did not write it"):
        clone.wait_for("never said", timeout=0.2)
    with pytest.raises(UsageError, match="no regular expression"):
        clone.wait_for("(")
