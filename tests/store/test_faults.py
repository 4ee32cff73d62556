"""Every step of a commit fails or kills: committed captures stay byte-equal, and the next commit works."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from casebuilder import DISK, GUEST, RAM, START_NS, XML, Built, assert_whole, build_case, extend, read_all, shaped

from workbench.errors import StoreBusyError, StoreError, StoreFullError
from workbench.model import CaptureMode, CaptureRecord
from workbench.store import CaseStore, Writer, local
from workbench.store.heads import Carry

CALLS = ("open", "write", "fsync", "link", "unlink", "mkdir", "rename")


class FailingOs:
    """The module `os`, of which the n-th call that changes or flushes something does not come through."""

    def __init__(self, at: int, fault: Callable[[], None]) -> None:
        self.left = at
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self._fault()
            return real(*args, **options)

        return call


def raising(number: int) -> Callable[[], None]:
    def fault() -> None:
        raise OSError(number, os.strerror(number))

    return fault


def change(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pages = np.sort(rng.choice(RAM.blocks, 70, replace=False))
    clusters = np.sort(rng.choice(DISK.blocks - 1, 3, replace=False))
    return (
        pages,
        rng.integers(0, 256, (70, 4096), dtype=np.uint8),
        clusters,
        rng.integers(0, 256, (3, 65536), dtype=np.uint8),
    )


def capture(writer: Writer, number: int, *, with_puts: bool = True) -> CaptureRecord:
    """Put everything even if the first put fails, as whoever captures must: it goes into the next transaction."""
    pages, content, clusters, data = change(number)
    with writer.begin([RAM, DISK, XML]) as transaction:
        failed = None
        for put in (
            lambda: transaction.put(RAM.name, pages, content),
            lambda: transaction.put(DISK.name, clusters, data),
            lambda: transaction.put_stream(XML.name, b"stream %d" % number),
        ):
            try:
                if with_puts:
                    put()
            except StoreError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return transaction.commit(time_ns=START_NS + 10**12 + number, mode=CaptureMode.MANUAL, reason="", facts={})


def after(content: dict[str, bytes], number: int) -> dict[str, bytes]:
    """What a capture must hold that was taken after `content`."""
    ram, disk = shaped(RAM, content), shaped(DISK, content)
    pages, blocks, clusters, data = change(number)
    ram[pages], disk[clusters] = blocks, data
    return {RAM.name: ram.tobytes(), DISK.name: disk.tobytes()[: DISK.length], XML.name: b"stream %d" % number}


def steps_of_a_commit(tmp_path: Path) -> int:
    built = build_case(tmp_path / "count", 2)
    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        with pytest.MonkeyPatch.context() as patch:
            counting = FailingOs(10**9, lambda: None)
            patch.setattr(local, "os", counting)
            capture(writer, 1)
    return 10**9 - counting.left


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_every_step_may_fail(tmp_path: Path, number: int) -> None:
    steps = steps_of_a_commit(tmp_path)
    assert steps > 15
    for step in range(1, steps + 1):
        built = build_case(tmp_path / f"case{step}", 2)
        base = built.content[built.ids[-1]]
        with built.open().writer(GUEST) as writer:
            writer.move_to(built.ids[-1])
            record = None
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(local, "os", FailingOs(step, raising(number)))
                try:
                    record = capture(writer, 1)
                except StoreError as error:
                    told = error
            if record is None:
                assert isinstance(told, StoreFullError) == (number == errno.ENOSPC)
                assert told.cure.startswith("Free space" if number == errno.ENOSPC else "Look after the volume")
                assert writer.parent == built.ids[-1]
                assert writer.must_compare == set()
                assert_whole(built)
                assert len(list(built.path.glob("packs/*/*.pack"))) == len(built.ids)
                assert len(list(built.path.glob(f"guests/{GUEST}/deltas/*"))) == len(built.ids)
                assert writer.head(RAM.name).tobytes() == after(base, 1)[RAM.name]
                # Nothing is put again: what the failed one was given goes into this one.
                record = capture(writer, 2, with_puts=False)
                assert record.parent == built.ids[-1]
            found = read_all(built.open(), record.id)
            assert found == after(base, 1)
            built.content[record.id] = found
            built.records.append(record)
            extend(built, writer, 1, seed=9)
        assert_whole(built)
        assert os.listdir(built.path / "tmp") == []


def test_a_commit_that_cannot_be_taken_back_keeps_what_it_needs(built: Built) -> None:
    """The record is published, its flush fails, and it will not go: then nothing that it refers to may go either."""

    def fsync(handle: int) -> None:
        if os.readlink(f"/proc/self/fd/{handle}").endswith("/captures"):
            raise OSError(errno.EIO, "gone")

    def unlink(path: Path) -> None:
        if str(path).endswith(".capture"):
            raise OSError(errno.EIO, "gone")
        os.unlink(path)

    class Failing(FailingOs):
        def __getattr__(self, name: str) -> Any:
            return {"fsync": fsync, "unlink": unlink}.get(name) or getattr(os, name)

    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local, "os", Failing(0, lambda: None))
            with pytest.raises(StoreError, match="cannot flush a directory"):
                capture(writer, 1)
        assert writer.parent == built.ids[-1]
        writer.move_to(writer.parent)  # drops what is pending
        extend(built, writer, 1)
    assert_whole(built)
    (left,) = {ref.id for ref in built.open().captures(GUEST)} - set(built.ids)
    assert read_all(built.open(), left) == after(built.content[built.ids[-2]], 1)


CHILD = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from casebuilder import GUEST
from test_faults import FailingOs, capture
from workbench.model import CaptureId
from workbench.store import CaseStore, local

store = CaseStore.open(Path({path!r}))
with store.writer(GUEST) as writer:
    writer.move_to(CaptureId({parent!r}))
    local.os = FailingOs({step}, lambda: os._exit(9))
    capture(writer, 1)
"""


def test_a_kill_at_every_step(tmp_path: Path) -> None:
    steps = steps_of_a_commit(tmp_path)
    for step in range(1, steps + 1):
        built = build_case(tmp_path / f"case{step}", 2)
        text = CHILD.format(tests=str(Path(__file__).parent), path=str(built.path), parent=built.ids[-1], step=step)
        code = subprocess.run([sys.executable, "-c", text], check=False).returncode
        assert_whole(built)
        refs = built.open().captures(GUEST)
        # A pack whose name begins as another's finds its directory there: a commit of fewer steps, which came through.
        assert code == 9 or (code, len(refs), step > steps - 4) == (0, 3, True)
        assert len(refs) in {2, 3}
        packs = set(built.path.glob("packs/*/*.pack"))
        with built.open().writer(GUEST) as writer:
            assert os.listdir(built.path / "tmp") == []
            if len(refs) == 2:
                # What was published without its commit is swept.
                assert set(built.path.glob("packs/*/*.pack")) <= packs
                assert len(list(built.path.glob("packs/*/*.pack"))) == 2
                assert len(list(built.path.glob(f"guests/{GUEST}/deltas/*"))) == 2
            writer.move_to(built.ids[-1])
            extend(built, writer, 2, seed=8)
        assert_whole(built)


def test_disks_past_the_bound_must_be_compared(built: Built) -> None:
    disk = shaped(DISK, after(built.content[built.ids[-1]], 1))
    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        writer.carry = Carry(limit=2 * 65536)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local, "os", FailingOs(2, raising(errno.ENOSPC)))
            with pytest.raises(StoreFullError):
                capture(writer, 1)
        assert writer.must_compare == {DISK.name}
        with writer.begin([RAM, DISK, XML]) as transaction:
            transaction.put(DISK.name, np.arange(DISK.blocks), disk)
            record = transaction.commit(time_ns=START_NS + 10**12, mode=CaptureMode.MANUAL, reason="", facts={})
        assert writer.must_compare == set()
    assert read_all(built.open(), record.id) == after(built.content[built.ids[-1]], 1)


def test_a_put_that_fails_still_updates_the_head(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        rng = np.random.default_rng(3)
        pages = rng.integers(0, 256, (RAM.blocks, 4096), dtype=np.uint8)
        transaction = writer.begin([RAM])
        monkeypatch.setattr(local, "os", FailingOs(1, raising(errno.ENOSPC)))
        with pytest.raises(StoreFullError):
            transaction.put(RAM.name, np.arange(RAM.blocks), pages)
        monkeypatch.undo()
        assert (writer.head(RAM.name) == pages).all()
        pages[7] = 0
        with pytest.raises(StoreError, match="has failed before"):
            transaction.put(RAM.name, np.array([7]), pages[7:8])
        assert (writer.head(RAM.name) == pages).all()
        with pytest.raises(StoreError, match="has failed before"):
            transaction.commit(time_ns=START_NS, mode=CaptureMode.MANUAL, reason="", facts={})
        record = writer.begin([RAM]).commit(time_ns=START_NS, mode=CaptureMode.MANUAL, reason="", facts={})
    assert read_all(built.open(), record.id)[RAM.name] == pages.tobytes()


def test_a_second_writer_is_refused(built: Built) -> None:
    with built.open().writer(GUEST):
        with pytest.raises(StoreBusyError, match=f"pid '{os.getpid()}'"):
            built.open().writer(GUEST)
        assert read_all(built.open(), built.ids[0]) == built.content[built.ids[0]]
    built.open().writer(GUEST).close()


def holder(built: Built, then: str) -> subprocess.Popen[str]:
    text = f"""
    import os, sys, time
    from pathlib import Path
    from workbench.store import CaseStore
    writer = CaseStore.open(Path({str(built.path)!r})).writer({GUEST!r})
    {then}
    print("held", flush=True)
    time.sleep(600)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(text)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lock_dies_with_its_holder(built: Built) -> None:
    process = holder(built, "")
    with pytest.raises(StoreBusyError, match=f"pid '{process.pid}'"):
        built.open().writer(GUEST)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    built.open().writer(GUEST).close()


def test_a_forked_child_does_not_keep_the_lock(built: Built) -> None:
    process = holder(built, "os.fork() or (os.close(1), time.sleep(20), os._exit(0))")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    built.open().writer(GUEST).close()


def test_a_reader_beside_a_writer(built: Built) -> None:
    reader = built.open()
    assert len(reader.captures(GUEST)) == 6
    view = reader.view(built.ids[2])
    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        for _ in range(3):
            extend(built, writer, 1, seed=5)
            newest = built.ids[-1]
            assert reader.captures(GUEST)[-1].id == newest
            assert read_all(reader, newest) == built.content[newest]
            assert view.region(RAM.name).read(0, RAM.length) == built.content[built.ids[2]][RAM.name]
        transaction = writer.begin([RAM])
        transaction.put(RAM.name, np.array([0]), np.full((1, 4096), 7, np.uint8))
        assert len(CaseStore.open(built.path).captures(GUEST)) == 9
        transaction.abort()
