"""The cache of symbol tables: whole or not there, whoever writes at the same time."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from kernelbuilder import FakeMemory, MadeKernel

from workbench.errors import SymbolsError
from workbench.memory.symbols.cache import SymbolCache, default_directory, symbols_for
from workbench.memory.symbols.kernel import find_kernel, read_sources

BUILD = "0123456789abcdef"


@pytest.fixture
def cache(tmp_path: Path) -> SymbolCache:
    return SymbolCache(tmp_path / "symbols")


def test_it_is_in_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert SymbolCache().directory == default_directory() == tmp_path / "rewind-workbench" / "symbols"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_directory() == Path.home() / ".cache" / "rewind-workbench" / "symbols"


def test_what_was_put_is_given(cache: SymbolCache) -> None:
    assert cache.get(BUILD) is None
    path = cache.put(BUILD, b"{}")
    assert cache.get(BUILD) == path
    assert path.read_bytes() == b"{}"
    assert path.suffix == ".json"  # Volatility opens it by that


def test_it_is_for_its_owner_alone(cache: SymbolCache) -> None:
    path = cache.put(BUILD, b"{}")
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", [b"", b'{"a"', b'{"a": 2}'])
def test_a_damaged_entry_is_noticed_and_removed(cache: SymbolCache, damage: bytes) -> None:
    path = cache.put(BUILD, b'{"a": 1}')
    path.write_bytes(damage)
    assert cache.get(BUILD) is None
    assert not path.exists()


def test_a_write_that_fails_leaves_nothing_behind(cache: SymbolCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        cache.put(BUILD, b"{}")
    assert list(cache.directory.iterdir()) == []


def test_symbols_are_made_once(cache: SymbolCache, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = MadeKernel().memory()
    kernel = find_kernel(memory)
    path = symbols_for(memory, kernel, cache)
    assert path.read_bytes() == read_sources(memory, kernel).isf()
    assert symbols_for(FakeMemory({}), kernel, cache) == path


def test_a_damaged_table_is_made_anew(cache: SymbolCache) -> None:
    memory = MadeKernel().memory()
    kernel = find_kernel(memory)
    path = symbols_for(memory, kernel, cache)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert symbols_for(memory, kernel, cache).read_bytes() == whole


def test_memory_without_the_kernel_gives_no_table(cache: SymbolCache) -> None:
    kernel = find_kernel(MadeKernel().memory())
    with pytest.raises(SymbolsError, match="not in memory any more"):
        symbols_for(FakeMemory({}), kernel, cache)


def test_processes_do_not_disturb_each_other(cache: SymbolCache) -> None:
    spawn = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = spawn.Queue()
    cache.put(BUILD, b"{}")
    workers = [spawn.Process(target=_put_many, args=(cache.directory, results)) for _ in range(3)]
    for each in workers:
        each.start()
    names = {results.get(timeout=240) for _ in range(3 * 20)}
    for each in workers:
        each.join(240)
    assert len(names) == 1
    assert [path.name for path in cache.directory.glob("same.*")] == list(names)


def _put_many(directory: Path, results: multiprocessing.Queue[str]) -> None:
    cache = SymbolCache(directory)
    for _ in range(20):
        cache.put("same", b"[1]" * 100_000)
        found = cache.get("same")
        results.put(found.name if found else "nothing")
