"""The last write to an address or a file is found, and a debugger goes backwards from there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from exactly import AFTER, BEFORE, PLANTED

from workbench.case import ExactRecording
from workbench.errors import UsageError
from workbench.replay.exact.content import open_memory, read_physical
from workbench.replay.exact.replaying import Replay
from workbench.replay.exact.search import LastWrite

PAGE = 4096


def find_page(replay: Replay, content: bytes) -> int:
    """Return the physical address of the one page that begins with this content and has nothing behind it."""
    with open_memory(replay.qemu) as (memory, reader):
        largest = max(memory.ranges, key=lambda each: each.length)
        ram = read_physical(memory, reader, largest.start, largest.length)
    page = content.ljust(PAGE, b"\0")
    (found,) = (at for at in range(0, len(ram), PAGE) if ram[at : at + PAGE] == page)
    return largest.start + found


def bytes_at(replay: Replay, address: int) -> bytes:
    with open_memory(replay.qemu) as (memory, reader):
        return read_physical(memory, reader, address, 11)


@pytest.fixture(scope="module")
def address(work: ExactRecording) -> int:
    """Where the planted file lies in the guest's page cache."""
    with work.begin(near=work.icount) as replay:
        replay.to(work.icount)
        return find_page(replay, AFTER.encode())


@pytest.fixture(scope="module")
def write(work: ExactRecording, address: int) -> LastWrite:
    return work.last_write(address, 11)


def test_the_instruction_that_last_wrote_to_an_address_is_found(
    work: ExactRecording, address: int, write: LastWrite
) -> None:
    assert (write.before, write.value) == (BEFORE.encode(), AFTER.encode())
    assert write.exact
    assert write.cpl == 0  # the kernel copied what dd gave it
    with work.begin(near=write.after) as replay:
        replay.to(write.after)
        assert bytes_at(replay, address) == BEFORE.encode()
        replay.to(write.by)
        assert bytes_at(replay, address) == AFTER.encode()


def test_a_debugger_goes_forth_and_back_by_instructions(work: ExactRecording, write: LastWrite) -> None:
    with work.gdb(write.after) as debugger:
        assert debugger.command.startswith("gdb ")
        debugger.connect()
        forth = [debugger.rip()]
        assert forth[0] == write.rip
        for _ in range(4):
            debugger.step()
            forth.append(debugger.rip())
        back = [forth[-1]]
        for _ in range(4):
            debugger.reverse_step()
            back.append(debugger.rip())
        assert back[::-1] == forth
        assert len(set(forth)) > 1


def test_when_a_file_of_the_disk_was_last_written_is_found(work: ExactRecording, write: LastWrite) -> None:
    found = work.last_write_of_file(PLANTED, resolution=20_000)
    assert found.before != found.value
    assert found.value.sha256 == hashlib.sha256(AFTER.encode()).hexdigest()
    assert found.value.size == len(AFTER)
    assert write.by < found.by  # in the page cache first, on the disk by sync
    with work.begin(near=found.after) as replay:
        for icount, state in ((found.after, found.before), (found.by, found.value)):
            replay.to(icount)
            told = work.capture(replay).stat(PLANTED, source="disk").iloc[0]
            assert told["modified"].isoformat() == state.modified


def test_what_did_not_change_has_no_last_write(work: ExactRecording) -> None:
    with pytest.raises(UsageError, match="the same from the beginning"):
        work.last_write(0x1000, before=work.description.begins + 1000)
    with pytest.raises(UsageError, match="the same from the beginning"):
        work.last_write_of_file("/etc/passwd", before=work.description.begins + 1000)
    with pytest.raises(UsageError, match="no RAM"):
        work.last_write(1 << 40, before=work.description.begins + 1000)


def test_searching_leaves_nothing_but_waypoints(work: ExactRecording) -> None:
    known = {*work.description.files, "description.json", "waypoints"}
    assert {each.name for each in Path(work.place).iterdir()} <= known
