"""Clones of one moment map its memory from one sealed file: each its own guest, none the worse for another."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rewinding import assert_healthy, content, differing_pages, supervisor_of
from waiting import until

from workbench.case import Case, Clone, Moment
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.errors import UnsupportedError, WorkbenchError
from workbench.guest.connection import Guest
from workbench.rewind import clone as cloning
from workbench.rewind import mapped, mapped_kernel
from workbench.rewind.mapped_kernel import read_kernel

pytestmark = pytest.mark.guest

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@pytest.fixture(scope="module")
def original(demo_image: DemoImage) -> Iterator[DemoGuest]:
    """A guest with a balloon, whose free memory is full of what was there before."""
    spec = DemoSpec(f"map-{os.getpid()}", memory_mib=256, balloon=True)
    with DemoGuest.boot(spec, image=demo_image) as running:
        running.run("dd if=/dev/urandom of=/dev/shm/gone bs=1M count=64; rm /dev/shm/gone; echo then >/tmp/when")
        yield running


@pytest.fixture(scope="module")
def moment(original: DemoGuest) -> Iterator[Moment]:
    with tempfile.TemporaryDirectory(prefix="rew-test-") as name:
        Path(name).chmod(0o711)
        with Case.create(Path(name) / "case") as case:
            with case.record(original.name) as recording:
                there = recording.capture("then")
            yield there


def files(pid: int | str) -> dict[int, Path]:
    """The memory files of moments that a process has open: inode -> a path to it."""
    found = {}
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if entry.readlink().name.startswith("memfd:rwb-memory-"):
                found[entry.stat().st_ino] = entry
    except OSError:  # gone meanwhile
        pass
    return found


def file_of(clone: Clone) -> int:
    [inode] = files(clone.guest.pid)
    return inode


def holders(inodes: set[int]) -> list[int]:
    """Every process on the host that has one of these files open."""
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and inodes & set(files(p.name))]


def different(moment: Moment, guest: Guest) -> dict[str, int]:
    """Pages of a paused guest that are not the moment's; the ROM out of view is QEMU's own."""
    found = differing_pages(moment.case, moment.record, guest)
    return {name: count for name, count in found.items() if count and name != "pc.rom"}


def test_clones_of_a_moment_share_one_file_that_nobody_can_change(moment: Moment) -> None:
    with moment.clone(run=False) as first, moment.clone(run=False) as second:
        assert [each.record.memory for each in (first, second)] == ["mapped", "mapped"]
        assert [each.record.memory for each in moment.case.clones()] == ["mapped", "mapped"]
        assert file_of(first) == file_of(second)
        [path] = files(first.guest.pid).values()
        descriptor = os.open(path, os.O_RDWR)
        try:
            assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) == SEALS
            with pytest.raises(PermissionError):
                os.pwrite(descriptor, b"evil", 0)
        finally:
            os.close(descriptor)
        assert different(moment, first.guest) == different(moment, second.guest) == {}


def kernels(clone: Clone, original: DemoGuest) -> list[tuple[int, int, int]]:
    """The mappings of the file behind main memory: inode, bytes, and bytes of it that QEMU has for itself."""
    text = Path(f"/proc/{clone.guest.pid}/smaps").read_text()
    found = []
    for part in re.split(r"(?m)^(?=[0-9a-f]+-)", text)[1:]:
        begin, end, _permissions, offset, inode = re.match(MAPPING, part).groups()  # type: ignore[union-attr]
        if "memfd:rwb-memory-" in part and int(offset, 16) >= original.spec.memory_mib << 20:
            own = re.search(r"(?m)^Anonymous: +(\d+) kB$", part)
            assert own is not None
            found.append((int(inode), int(end, 16) - int(begin, 16), int(own[1]) << 10))
    return found


MAPPING = r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ (\d+)"


def test_clones_share_the_kernel_that_qemu_boots_them_with(moment: Moment, original: DemoGuest) -> None:
    """That they boot with it is what `test_a_clone_survives_its_own_reboot` sees."""
    size = len(read_kernel(original.domain.XMLDesc()))
    with moment.clone() as first, moment.clone(run=False) as second:
        [(inode, length, own)] = kernels(first, original)
        assert inode == file_of(first)
        assert size - (1 << 20) < length <= size
        assert own == 0
        assert kernels(second, original) == [(inode, length, 0)]
        with supervisor_of(first, original) as inside:
            assert_healthy(inside)


@pytest.mark.parametrize("obstacle", ["QEMU may not be touched", "another kernel lies there now", "it cannot be read"])
def test_a_clone_whose_kernel_cannot_be_shared_has_its_own(
    moment: Moment, original: DemoGuest, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    def refuse(*_words: object) -> None:
        raise UnsupportedError("planted")

    if obstacle == "QEMU may not be touched":
        monkeypatch.setattr(mapped_kernel, "map_file", refuse)
    else:
        other = b"" if obstacle == "it cannot be read" else os.urandom(len(read_kernel(original.domain.XMLDesc())))
        monkeypatch.setattr(cloning, "read_kernel", lambda _xml: other)
    with moment.clone() as clone, supervisor_of(clone, original) as inside:
        assert clone.record.memory == "mapped"
        assert kernels(clone, original) == []
        assert_healthy(inside)


def test_what_a_strangers_xml_calls_a_kernel_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "small").write_bytes(b"MZ")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    for path in ("pipe", "small", "huge", "none", ".", "../../dev/zero"):
        assert read_kernel(f"<domain><os><kernel>{tmp_path}/{path}</kernel></os></domain>") == b"", path
    assert read_kernel("<domain/>") == b""


def test_clones_that_start_at_once_share_it_too(moment: Moment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_PATIENCE", 300.0)

    def start(_number: int) -> Clone:
        with Case(moment.case.path) as case:
            return case.moment(moment.id).clone(run=False)

    with ThreadPoolExecutor(3) as pool:
        clones = list(pool.map(start, range(3)))
    try:
        assert len({file_of(each) for each in clones}) == 1
        assert [different(moment, each.guest) for each in clones] == [{}, {}, {}]
    finally:
        for each in clones:
            moment.case.remove_clone(each.record.uuid)


def test_the_file_goes_with_the_last_clone(moment: Moment) -> None:
    first = moment.clone(run=False)
    inode = file_of(first)
    assert holders({inode}) == [first.guest.pid], "nobody else has to keep it"
    second = moment.clone(run=False)
    first.destroy()
    third = moment.clone(run=False)
    assert file_of(second) == file_of(third) == inode
    assert different(moment, third.guest) == {}
    second.destroy()
    third.destroy()
    assert holders({inode}) == []


def test_what_one_clone_writes_no_other_sees(moment: Moment, original: DemoGuest) -> None:
    with moment.clone() as busy, moment.clone(run=False) as still:
        with supervisor_of(busy, original) as inside:
            inside.wait_ready(60)
            assert inside.run("cat /tmp/when; echo busy >/tmp/when").stdout == "then\n"
            inside.run("dd if=/dev/urandom of=/dev/shm/noise bs=1M count=32 2>/dev/null")
        assert different(moment, still.guest) == {}
        with moment.clone() as late, supervisor_of(late, original) as inside:
            inside.wait_ready(60)
            assert file_of(late) == file_of(busy)
            assert inside.run("cat /tmp/when; ls /dev/shm").stdout == "then\n"


def test_a_balloon_in_one_clone_takes_nothing_from_another(moment: Moment, original: DemoGuest) -> None:
    with moment.clone() as shrunk, moment.clone(run=False) as still, supervisor_of(shrunk, original) as inside:
        inside.wait_ready(60)
        wanted = 128 << 20
        monitor = shrunk.guest.monitor
        monitor.execute("balloon", value=wanted)
        until(lambda: monitor.execute("query-balloon")["actual"] == wanted, "the balloon inflates")
        assert different(moment, still.guest) == {}
        with moment.clone(run=False) as late:
            assert file_of(late) == file_of(shrunk)
            assert different(moment, late.guest) == {}
        monitor.execute("balloon", value=256 << 20)
        assert_healthy(inside)


def test_a_capture_of_a_clone_calls_its_memory_as_the_guest_does(moment: Moment, original: DemoGuest) -> None:
    case = moment.case
    with moment.clone(run=False) as clone:
        with case.record(clone.name) as recording:
            same = recording.capture("not run yet").record
        memory = {name: digest for name, digest in content(moment.record).items() if not name.startswith("disk:")}
        assert memory.items() <= content(same).items(), "the very content, under the very names"
        clone.guest.domain.resume()
        with supervisor_of(clone, original) as inside:
            inside.wait_ready(60)
            inside.load("memory")
            with case.record(clone.name, audit=True) as recording:  # raises for any page that the tracker missed
                taken = [recording.capture("under load") for _ in range(4)]
            inside.load("off")
    with taken[-1].clone() as child:
        assert child.record.memory == "mapped"
        with supervisor_of(child, original) as inside:
            assert_healthy(inside)
            assert inside.run("cat /tmp/when").stdout == "then\n"


@pytest.mark.parametrize("obstacle", ["QEMU cannot open it", "there is no memory for it", "it cannot be sealed"])
def test_where_mapping_fails_memory_is_written(
    moment: Moment, original: DemoGuest, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    def fail(*_words: object, **_named: object) -> None:
        raise OSError(28, "planted")

    monkeypatch.setattr(cloning, "_NO_MAPPING", set())
    if obstacle == "QEMU cannot open it":
        monkeypatch.setattr(cloning, "with_mapping", lambda xml, block, _path, size: REAL(xml, block, "/dev/nil", size))
    elif obstacle == "there is no memory for it":
        monkeypatch.setattr(mapped.MappedMemory, "write", fail)
    else:
        monkeypatch.setattr(mapped.MappedMemory, "seal", fail)
    with moment.clone(run=False) as clone:
        assert clone.record.memory == "written"
        assert files(clone.guest.pid) == {}
        assert different(moment, clone.guest) == {}
        clone.guest.domain.resume()
        with supervisor_of(clone, original) as inside:
            assert_healthy(inside)
    assert moment.case.uri in cloning._NO_MAPPING, "the next clone need not try"


REAL = cloning.with_mapping

HOLDER = """
import fcntl, os, sys
name, size, seal = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "sealed"
file = os.memfd_create(name, os.MFD_ALLOW_SEALING)
os.ftruncate(file, size)
if seal:
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, 15)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("size", "seal", "user", "taken"),
    [(8192, "sealed", 0, True), (4096, "sealed", 0, False), (8192, "open", 0, False), (8192, "sealed", 1, False)],
    ids=["as it must be", "another size", "not sealed", "of another user"],
)
def test_only_a_whole_file_of_a_qemu_is_shared(size: int, seal: str, user: int, taken: bool) -> None:
    identity = "5d0c1f5e-52d4-4a3b-9c0e-0123456789ab"
    words = [sys.executable, "-I", "-S", "-c", HOLDER, "rwb-memory-x", str(size), seal, "-uuid", identity]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        found = mapped._find("rwb-memory-x", 8192, [identity], (os.geteuid() + user, os.getegid()))
        assert (found is not None) == taken
        if found is not None:
            os.close(found)
        assert holder.stdin is not None
        holder.stdin.close()


# Starts a clone and dies by SIGKILL at the nth call of the function named, before or after it.
VICTIM = """
import importlib, os, signal, sys
from workbench.case import Case
path, place, name, when = sys.argv[1:]
owner = importlib.import_module(place)
for part in name.split(".")[:-1]:
    owner = getattr(owner, part)
last = name.split(".")[-1]
real = getattr(owner, last)
def fatal(*words, **named):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(*words, **named)
    os.kill(os.getpid(), signal.SIGKILL)
with Case(path) as case:
    setattr(owner, last, fatal)
    case.moment("latest").clone()
"""
MAPPED, START = "workbench.rewind.mapped", "workbench.rewind.start"


@pytest.mark.parametrize(
    ("place", "name", "when"),
    [
        (MAPPED, "MappedMemory.write", "before"),
        (MAPPED, "MappedMemory.write", "after"),
        (START, "read_memory_map", "before"),
        (MAPPED, "MappedMemory.seal", "before"),
        (START, "mend_private", "before"),
        (START, "load_device_state", "after"),
    ],
)
def test_a_killed_maker_leaves_nothing_that_cannot_be_removed(
    original: DemoGuest, case: Case, place: str, name: str, when: str
) -> None:
    """And the next clone, which might find what the dead one left, is equal to the moment all the same."""
    with case.record(original.name) as recording:
        there = recording.capture("then")
    words = [sys.executable, "-c", VICTIM, str(case.path), place, name, when]
    done = subprocess.run(words, capture_output=True, timeout=240, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with there.clone(run=False) as next_one:
        assert different(there, next_one.guest) == {}
        inode = file_of(next_one)
        for left in case.clones():
            if left.name != next_one.name:
                case.remove_clone(left.name)
        assert holders({inode}) == [next_one.guest.pid]
    assert case.clones() == []
    digest = there.record.region("pc.ram").digest
    until(lambda: not open_files(digest), "no process has the file")


def open_files(digest: str) -> list[str]:
    """Processes, holders of ours among them, that have a file of this content open, whole or not."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            links = [os.readlink(entry) for entry in (process / "fd").iterdir()] if process.name.isdigit() else []
        except OSError:
            continue
        found += [process.name for link in links if f"rwb-memory-{digest}" in link]
    return found


def test_an_old_description_says_that_memory_was_written(moment: Moment) -> None:
    with moment.clone(run=False) as clone:
        path = clone.directory / "clone.json"
        told = json.loads(path.read_text())
        for memory, expected in ((None, "written"), ("mapped", "mapped"), ("<script>", "written")):
            path.write_text(json.dumps({k: v for k, v in {**told, "memory": memory}.items() if v is not None}))
            [found] = moment.case.clones()
            assert found.record.memory == expected


def test_a_clone_that_cannot_start_either_way_says_why(moment: Moment, original: DemoGuest) -> None:
    with pytest.raises(WorkbenchError, match=original.name):
        moment.clone(name=original.name)
    assert moment.case.clones() == []
    assert open_files(moment.record.region("pc.ram").digest) == []
