"""What every backend must do, and a whole case on each of them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from casebuilder import GUEST, RAM, START_NS

from workbench.errors import DamagedError, MissingError, StoreBusyError, UsageError
from workbench.model import CaptureMode
from workbench.store import CaseStore
from workbench.store.backend import Backend
from workbench.store.local import LocalBackend


class MemoryFile:
    def __init__(self) -> None:
        self.data = b""
        self.size = 0

    def write(self, data: bytes) -> None:
        self.data += data
        self.size = len(self.data)

    def seal(self) -> None:
        """Nothing to flush."""


class MemoryStaging:
    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend

    def file(self) -> MemoryFile:
        return MemoryFile()

    def publish(self, groups: Sequence[Sequence[tuple[MemoryFile, str]]]) -> None:
        for group in groups:
            for file, name in group:
                self._backend.put(name, file.data)

    def replace(self, files: Sequence[tuple[MemoryFile, str]]) -> None:
        self._backend.files.update((name, file.data) for file, name in files)

    def discard(self) -> None:
        """Nothing was kept."""


class MemoryLock:
    def __init__(self, held: dict[str, str], name: str) -> None:
        if name in held:
            raise StoreBusyError("another writes")
        held[name] = "0"
        self._held, self._name = held, name

    def note(self, text: str) -> None:
        if self._name in self._held:
            self._held[self._name] = f"0 {text}"

    def release(self) -> None:
        self._held.pop(self._name, None)


class MemoryBackend:
    """A backend as an object store would be: no directories, no links."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.held: dict[str, str] = {}

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        if name not in self.files:
            raise MissingError("no such file", path=name)
        data = self.files[name][offset : None if length is None else offset + length]
        if length is not None and len(data) != length:
            raise DamagedError("file is too short", path=name)
        return data

    def size(self, name: str) -> int:
        return len(self.get(name))

    def list(self, prefix: str) -> list[str]:
        return list({name[len(prefix) + 1 :].partition("/")[0] for name in self.files if name.startswith(f"{prefix}/")})

    def put(self, name: str, data: bytes) -> bool:
        if name in self.files:
            return False
        self.files[name] = bytes(data)
        return True

    def delete(self, name: str) -> None:
        self.files.pop(name, None)

    def delete_many(self, names: Sequence[str]) -> None:
        for name in names:
            self.delete(name)

    def stage(self, owner: str) -> MemoryStaging:
        return MemoryStaging(self)

    def sweep(self, owner: str) -> None:
        """Nothing is left behind."""

    def lock(self, name: str) -> MemoryLock:
        return MemoryLock(self.held, name)

    def holder(self, name: str) -> str | None:
        return self.held.get(name)


@pytest.fixture(params=["local", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return LocalBackend(tmp_path / "root") if request.param == "local" else MemoryBackend()


def test_put_and_get(backend: Backend) -> None:
    assert backend.put("a/b", b"0123456789")
    assert backend.get("a/b") == b"0123456789"
    assert backend.get("a/b", 3, 4) == b"3456"
    assert backend.get("a/b", 3) == b"3456789"
    assert backend.get("a/b", 10, 0) == b""
    assert backend.size("a/b") == 10


def test_put_leaves_what_is_there(backend: Backend) -> None:
    assert backend.put("a/b", b"first")
    assert not backend.put("a/b", b"second")
    assert backend.get("a/b") == b"first"


def test_missing(backend: Backend) -> None:
    with pytest.raises(MissingError):
        backend.get("a/b")
    with pytest.raises(MissingError):
        backend.size("a/b")
    backend.delete("a/b")


@pytest.mark.parametrize(("offset", "length"), [(0, 6), (3, 3), (6, 1)])
def test_short_files_are_damage(backend: Backend, offset: int, length: int) -> None:
    backend.put("a/b", b"01234")
    with pytest.raises(DamagedError):
        backend.get("a/b", offset, length)


def test_replace_and_delete_many(backend: Backend) -> None:
    backend.put("a/x", b"old")
    staging = backend.stage("owner")
    files = [(staging.file(), name) for name in ("a/x", "a/new/y")]
    for file, name in files:
        file.write(f"new {name}".encode())
    assert backend.get("a/x") == b"old"
    staging.replace(files)
    staging.discard()
    assert [backend.get(name) for name in ("a/x", "a/new/y")] == [b"new a/x", b"new a/new/y"]
    backend.delete_many(["a/x", "a/missing", "none/at/all", "a/new/y"])
    assert backend.list("a/new") == []
    with pytest.raises(MissingError):
        backend.size("a/x")


def test_the_holder_of_a_lock_says_something_of_itself(backend: Backend) -> None:
    assert backend.holder("guests/lock") is None
    lock = backend.lock("guests/lock")
    lock.note("one two")
    told = backend.holder("guests/lock")
    assert told is not None
    assert told.split()[1:] == ["one", "two"]
    lock.release()
    lock.note("too late")
    assert backend.holder("guests/lock") is None
    backend.lock("guests/lock").release()


def test_list_and_delete(backend: Backend) -> None:
    for name in ("a/x", "a/y", "a/deep/z", "b/x"):
        backend.put(name, b"")
    assert sorted(backend.list("a")) == ["deep", "x", "y"]
    assert backend.list("c") == []
    backend.delete("a/x")
    assert sorted(backend.list("a")) == ["deep", "y"]
    with pytest.raises(MissingError):
        backend.get("a/x")


def test_staged_files_appear_at_publication(backend: Backend) -> None:
    staging = backend.stage("owner")
    one, two = staging.file(), staging.file()
    one.write(b"on")
    one.write(b"e")
    two.write(b"two")
    assert one.size == 3
    assert backend.list("d") == []
    staging.publish([[(one, "d/one")], [(two, "d/two")]])
    assert (backend.get("d/one"), backend.get("d/two")) == (b"one", b"two")


def test_discarded_files_never_appear(backend: Backend) -> None:
    staging = backend.stage("owner")
    staging.file().write(b"gone")
    staging.discard()
    assert backend.list("d") == []
    assert backend.list("tmp") == []


def test_publication_leaves_what_is_there(backend: Backend) -> None:
    backend.put("d/one", b"first")
    staging = backend.stage("owner")
    file = staging.file()
    file.write(b"second")
    staging.publish([[(file, "d/one")]])
    assert backend.get("d/one") == b"first"


def test_one_holds_a_lock(backend: Backend) -> None:
    lock = backend.lock("a/lock")
    with pytest.raises(StoreBusyError):
        backend.lock("a/lock")
    backend.lock("b/lock").release()
    lock.release()
    backend.lock("a/lock").release()


def test_a_case_works(backend: Backend) -> None:
    store = CaseStore.create_on(backend, Path("somewhere"))
    store.add_guest(GUEST, "demo")
    pages = np.arange(4 * 4096, dtype=np.uint8).reshape(4, 4096) // 3
    with store.writer(GUEST) as writer:
        transaction = writer.begin([RAM])
        transaction.put(RAM.name, np.array([1, 5, 7, 9]), pages)
        record = transaction.commit(time_ns=START_NS, mode=CaptureMode.BASELINE, reason="", facts={})
    again = CaseStore.open_on(backend, Path("somewhere"))
    assert again.captures(GUEST)[0].id == record.id
    assert (
        again.view(record.id).region(RAM.name).read_blocks(np.array([9, 1, 2])) == [pages[3], pages[0], 0 * pages[0]]
    ).all()
    assert again.check() == []
    with pytest.raises(UsageError):
        CaseStore.create_on(backend, Path("somewhere"))


# The local directory alone.


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "a//x", "", ".x", "a/.x", "a\0b", "a/ü"])
def test_names_never_leave_the_case(tmp_path: Path, name: str) -> None:
    backend = LocalBackend(tmp_path / "root")
    for act in (
        lambda: backend.put(name, b""),
        lambda: backend.get(name),
        lambda: backend.delete(name),
        lambda: backend.size(name),
    ):
        with pytest.raises(UsageError):
            act()


def test_volumes_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    backend = LocalBackend(tmp_path / "root")
    assert backend.put("a/b", b"first")
    assert not backend.put("a/b", b"second")
    assert backend.get("a/b") == b"first"
    assert backend.list("tmp") == []
    test_staged_files_appear_at_publication(backend)
    test_publication_leaves_what_is_there(LocalBackend(tmp_path / "other"))


def test_sweep_takes_only_what_is_dead(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "root")
    mine, other = backend.stage("mine"), backend.stage("other")
    mine.file().write(b"dead")
    living = other.file()
    living.write(b"alive")
    (tmp_path / "root/tmp/put.fresh").write_bytes(b"")
    (tmp_path / "root/tmp/put.stale").write_bytes(b"")
    os.utime(tmp_path / "root/tmp/put.stale", (time.time() - 7200,) * 2)
    backend.sweep("mine")
    left = {name.partition(".")[0] if name.startswith("other") else name for name in backend.list("tmp")}
    assert left == {"other", "put.fresh"}
    other.publish([[(living, "d/living")]])
    assert backend.get("d/living") == b"alive"
