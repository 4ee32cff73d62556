"""What cannot be replayed is refused by name before anything starts, and what reaches out of the machine too."""

from __future__ import annotations

import pytest

from workbench.case import Case, Machine
from workbench.errors import UnsupportedError, UsageError


@pytest.mark.parametrize(
    ("machine", "named"),
    [
        (Machine(vcpus=2), "-smp is in the way"),
        (Machine(arguments=("-smp", "2")), "-smp is in the way"),
        (Machine(arguments=("-nic", "user")), "-nic is in the way"),
        (Machine(arguments=("--netdev", "user,id=n")), "-netdev is in the way"),
        (Machine(arguments=("-device", "virtio-net-pci")), "virtio-net-pci is in the way: it sends at an instant"),
        (
            Machine(arguments=("-device", "virtserialport,chardev=console")),
            "virtserialport is in the way: what is behind",
        ),
        (Machine(arguments=("-device", "usb-tablet,chardev=quiet0")), "chardev reaches out of it"),
        (Machine(disk="ide-hd"), "the disk ide-hd is in the way: replays with IDE disks crashed"),
        (Machine(disk="virtio-blk-pci,iothread=io"), "iothread reaches out of it"),
        (Machine(disk="virtio-blk-pci,drive=state"), "drive reaches out of it"),
        (Machine(arguments=("-accel", "kvm")), "-accel is in the way: .* TCG"),
        (Machine(arguments=("-enable-kvm",)), "-enable-kvm is in the way: .* TCG"),
        (
            Machine(arguments=("-device", "virtio-rng-pci")),
            "virtio-rng-pci is in the way: what is behind it is not in the log",
        ),
        (Machine(arguments=("-drive", "file=/dev/sda")), "-drive is in the way: .* blkreplay"),
        (Machine(arguments=("-rtc", "base=utc", "-incoming", "defer")), "-incoming is in the way"),
        (Machine(arguments=("-device", "qemu-xhci", "-device", "usb-host")), "usb-host is in the way"),
    ],
)
def test_what_cannot_be_replayed_is_named(case: Case, machine: Machine, named: str) -> None:
    before = len(case.exact_recordings())
    with pytest.raises(UnsupportedError, match=named):
        case.record_exactly(machine)
    assert len(case.exact_recordings()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("-readconfig", "x"),
        ("-D", "log"),
        ("-pidfile", "x"),
        ("-virtfs", "local"),
        ("-device", "VGA,romfile=vgabios.bin"),
        ("-device", "VGA,romfile=/etc/shadow"),
        ("-device", "loader,file=x"),
        ("-device", "driver=VGA,driver=loader"),
        ("-global", "VGA.romfile=x"),
        ("-global", "driver=VGA,property=romfile,value=x"),
        ("-boot", "splash=x"),
        ("-rtc",),
        ("-rtc", "base=utc\n-drive"),
    ],
)
def test_what_names_a_file_of_the_host_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedError, match="is in the way"):
        Machine(arguments=arguments).check()


def test_devices_that_are_known_to_replay_pass() -> None:
    Machine(arguments=("-device", "VGA,vgamem_mb=8", "-rtc", "base=utc")).check()
    Machine(machine="pc-i440fx-7.2,usb=off,hpet=off", cpu="qemu64,-sse3,xlevel=2").check()
    Machine(arguments=("-device", "virtio-rng-pci,rng=quiet0", "-device", "virtio-net-pci,tx=timer")).check()
    Machine(
        arguments=("-device", "virtconsole,chardev=quiet0", "-device", "cirrus-vga", "-device", "usb-tablet")
    ).check()


@pytest.mark.parametrize(
    "machine",
    [Machine(memory_mib=1), Machine(shift=11), Machine(machine="pc,x=y"), Machine(cpu=""), Machine(cpu="x,y z")],
)
def test_numbers_and_names_out_of_range_are_wrong_requests(machine: Machine) -> None:
    with pytest.raises(UsageError):
        machine.check()


def test_nothing_is_recorded_without_a_kernel(case: Case) -> None:
    before = sorted((case.path / "recordings").glob("*"))
    with pytest.raises(UsageError, match="no kernel"):
        case.record_exactly(Machine())
    assert sorted((case.path / "recordings").glob("*")) == before
