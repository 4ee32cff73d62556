"""Device streams: real ones taken apart, clocks mended, hostile ones refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.demo import DemoGuest
from workbench.errors import FormatError
from workbench.guest.connection import Hypervisor
from workbench.guest.devices import state_sink
from workbench.guest.stream import sections, with_clock_of, with_configuration

CPU_BYTES = 1000
TSC_AT = 896


def section(number: int, name: str, data: bytes, instance: int = 0) -> bytes:
    head = struct.pack(">BIB", 4, number, len(name)) + name.encode() + struct.pack(">II", instance, 1)
    return head + data + struct.pack(">BI", 0x7E, number)


def stream(ticks: int, offsets: list[int], efer: int = 0xD01) -> bytes:
    made = b"QEVM\0\0\0\3" + section(0, "timer", struct.pack(">qq", ticks, 0))
    for number, offset in enumerate(offsets):
        cpu = bytearray(CPU_BYTES)
        struct.pack_into(">Q", cpu, 816, efer)
        struct.pack_into(">Q", cpu, TSC_AT, offset)
        made += section(number + 1, "cpu", bytes(cpu), number)
    return made + b"\0"


def clock_of(made: bytes) -> tuple[int, list[int]]:
    found = {each.name: each for each in sections(made)}
    ticks = struct.unpack_from(">q", made, found["timer"].start)[0]
    cpus = [each for each in sections(made) if each.name == "cpu"]
    return ticks, [struct.unpack_from(">Q", made, cpu.start + TSC_AT)[0] for cpu in cpus]


def test_a_real_stream_comes_apart_at_its_devices(guest: DemoGuest) -> None:
    with Hypervisor(guest.uri) as hypervisor:
        live = hypervisor.guest(guest.name)
        with state_sink(live.monitor) as sink:
            guest.domain.suspend()
            try:
                sink.save()
            finally:
                guest.domain.resume()
            real = sink.read()
        machine = live.machine()
    names = [each.name for each in sections(real)]
    assert names.count("cpu") == guest.spec.vcpus
    assert {"timer", "mc146818rtc", "serial"} <= set(names)
    assert any(name.endswith("/virtio-blk") for name in names)
    configured = with_configuration(real, machine)
    assert machine.encode() in configured[:64]
    assert [each.name for each in sections(configured)] == names
    assert with_configuration(configured, machine) == configured
    assert with_clock_of(configured, configured) == configured


def test_the_clock_of_now_with_the_time_of_then() -> None:
    then, now = stream(1000, [5, 7]), stream(5000, [5, 7])
    ticks, offsets = clock_of(with_clock_of(then, now))
    assert ticks == 5000
    assert [(ticks + offset) % 2**64 for offset in offsets] == [1005, 1007]


@pytest.mark.parametrize(
    "broken", [stream(1, [], 0), stream(1, [5], efer=1 << 40), b"QEVM\0\0\0\3" + section(0, "cpu", bytes(1000)) + b"\0"]
)
def test_an_unknown_layout_is_refused_and_nothing_changed(broken: bytes) -> None:
    with pytest.raises(FormatError):
        with_clock_of(broken, stream(1, [5]))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_garbage_is_an_error(garbage: bytes) -> None:
    with pytest.raises(FormatError):
        sections(garbage if not garbage.startswith(b"QEVM\0\0\0\3") else b"x" + garbage)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2300), st.binary(min_size=1, max_size=8))
def test_a_stream_with_changed_bytes_is_an_error_or_an_answer(at: int, change: bytes) -> None:
    good = stream(1000, [5, 7])
    bad = good[:at] + change + good[at + len(change) :]
    try:
        found = sections(bad[: len(good)])
    except FormatError:
        return
    assert all(each.start <= each.end <= len(bad) for each in found)
