"""What a machine that is recorded must not have, by name, before anything is started.

A recording that cannot be replayed is worth nothing; and one may come from a stranger, and its arguments go to a QEMU
of this host: only a few options and devices pass, and none that names a file. Refuses what is not known to be replayed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from workbench.errors import UnsupportedError, UsageError

__all__ = ["properties", "refuse_arguments", "refuse_disk", "refuse_features", "refuse_model"]

_TAKES_VALUE_CLOCKS = "every answer of the outside world would have to be in the log"
_REFUSED_OPTIONS = {
    "-accel": "record and replay count instructions, which only TCG can",
    "-enable-kvm": "record and replay count instructions, which only TCG can",
    "-netdev": f"a network without filter-replay is not in the log: {_TAKES_VALUE_CLOCKS}",
    "-nic": f"a network without filter-replay is not in the log: {_TAKES_VALUE_CLOCKS}",
    "-net": f"a network without filter-replay is not in the log: {_TAKES_VALUE_CLOCKS}",
    "-incoming": "a state from elsewhere has no instruction count; record from the moment instead",
    "-icount": "the workbench sets it",
    "-drive": "a disk that is not behind blkreplay is not in the log",
    "-blockdev": "a disk that is not behind blkreplay is not in the log",
    "-cdrom": "a disk that is not behind blkreplay is not in the log",
    "-hda": "a disk that is not behind blkreplay is not in the log",
    "-chardev": "a channel that is not the recorded console is not in the log",
    "-serial": "the recorded console is the one serial port",
    "-monitor": "a second monitor could change what is replayed",
    "-qmp": "a second monitor could change what is replayed",
    "-smp": "QEMU records and replays one vCPU",
    "-object": "objects with threads or files of the host of their own are not in the log",
}
_REFUSED_DEVICES = {
    "e1000": "a network card without filter-replay is not in the log",
    "rtl8139": "its replays crashed QEMU 7.2",
    "ide-": "replays with IDE disks crashed QEMU 7.2",
    "vhost-": "its back end is another process, which is not in the log",
    "vfio-": "real hardware cannot be replayed",
    "virtio-scsi": "its replays were not tried",
    "virtio-vga": "it draws by the main loop, at an instant that is not in the log",
    "virtio-gpu": "it draws by the main loop, at an instant that is not in the log",
    "qxl": "it draws in a thread of its own, at an instant that is not in the log",
    "ich9-usb-ehci": "it works by the main loop, at an instant that is not in the log",
    "usb-ehci": "it works by the main loop, at an instant that is not in the log",
}
_OPTIONS = ("-device", "-global", "-rtc", "-boot", "-vga", "-watchdog-action")
_DEVICES = (
    "VGA", "bochs-display", "cirrus-vga", "pvpanic", "i6300esb", "isa-debug-exit", "pci-bridge", "pcie-root-port",
    "qemu-xhci", "piix3-usb-uhci", "usb-kbd", "usb-tablet", "virtio-balloon-pci", "virtio-net-pci", "virtio-rng-pci",
    "virtio-serial-pci", "virtserialport", "virtconsole",
)  # fmt: skip
"""Of which, with nothing behind them, QEMU 7.2 runs nothing but in the vCPU's thread and by the guest's own timers:
no bottom half of the main loop and no thread, whose instants no log has (usb-ehci, virtio-gpu and qxl have such)."""
_DISKS = ("virtio-blk-pci",)
_OUTSIDE = {"file", "romfile", "drive", "chardev", "rng", "netdev", "memdev", "iothread", "rootdir", "splash", "driver"}
"""Properties that name something outside of the machine, or another device than the one that was looked at."""
_VALUE = re.compile(r"[A-Za-z0-9_.,=:+-]{1,200}")
_QUIET = re.compile(r"quiet[0-9]{1,3}")
"""Back ends that we make: a channel that takes everything and says nothing, random numbers that are in the log."""
_NEEDED = {"virtserialport": "chardev", "virtconsole": "chardev", "virtio-rng-pci": "rng"}
_FEATURE = re.compile("(acpi|hpet|smm|usb|vmport)=(on|off|auto)")
_MACHINE = re.compile(rf"[A-Za-z0-9_.+-]{{1,64}}(,{_FEATURE.pattern})*")
_CPU = re.compile(r"[A-Za-z0-9_.+-]{1,64}(,[+-]?[a-z0-9_.-]{1,32}(=[a-z0-9_.-]{1,32})?)*")


def refuse_model(machine: str, cpu: str) -> None:
    """Refuse what is no machine type or CPU model with plain features.

    Raises
    ------
    UsageError
    """
    for word, form in ((machine, _MACHINE), (cpu, _CPU)):
        if not form.fullmatch(word):
            raise UsageError("not a machine type or CPU model", found=word, cure="Give QEMU's name of it.")


def refuse_features(features: Sequence[str]) -> None:
    """Refuse what a machine type is told beside its name, where it is not known to be replayed, as firmware in a file.

    Raises
    ------
    UnsupportedError
    """
    for each in features:
        if not _FEATURE.fullmatch(each):
            raise UnsupportedError(f"-machine {each} is in the way: it is not known to be replayed")


def refuse_disk(words: str) -> None:
    """Refuse a disk that could not be recorded.

    Raises
    ------
    UnsupportedError
    """
    device = words.partition(",")[0]
    if device not in _DISKS or not _VALUE.fullmatch(words):
        why = next((why for name, why in _REFUSED_DEVICES.items() if device.startswith(name)), "it was not tried")
        raise UnsupportedError(
            f"the disk {words} is in the way: {why}", cure=f"Record without it; there is {', '.join(_DISKS)}."
        )
    _refuse_properties("-device", words)


def properties(words: str) -> Iterator[tuple[str, str]]:
    """Yield the properties of a device's words, names without what they are of, and their values."""
    for each in words.split(","):
        name, _, value = each.partition("=")
        yield name.rpartition(".")[2], value


def refuse_arguments(arguments: Sequence[str]) -> None:
    """Refuse QEMU arguments that QEMU could not replay, and those that are not known to be harmless.

    A recording may come from a stranger, and its arguments go to a QEMU of this host: only a few options and devices
    pass, and none that names a file.

    Raises
    ------
    UnsupportedError
        Naming the option or device and why.
    """
    words = [each.replace("--", "-", 1) if each.startswith("--") else each for each in arguments]
    for option, value in zip_longest(words[::2], words[1::2], fillvalue=""):
        if why := _REFUSED_OPTIONS.get(option):
            raise UnsupportedError(f"{option} is in the way: {why}", cure="Record without it.")
        if option not in _OPTIONS or not _VALUE.fullmatch(value):
            raise UnsupportedError(
                f"{option} {value} is in the way: it is not known to be replayed, or names a file",
                cure=f"Record without it; there are {', '.join(_OPTIONS)}.",
            )
        if option == "-device":
            _refuse_device(value)
        _refuse_properties(option, value)


def _refuse_device(words: str) -> None:
    device = words.partition(",")[0].removeprefix("driver=")
    for name, why in _REFUSED_DEVICES.items():
        if device.startswith(name):
            raise UnsupportedError(f"the device {device} is in the way: {why}", cure="Record without it.")
    if device not in _DEVICES:
        raise UnsupportedError(
            f"the device {device} is in the way: it is not known to be replayed",
            cure=f"Record without it; there are {', '.join(_DEVICES)}.",
        )
    has = dict(properties(words))
    if device == "virtio-net-pci" and has.get("tx") != "timer":
        raise UnsupportedError(
            f"the device {device} is in the way: it sends at an instant that is not in the log",
            cure="Give it tx=timer.",
        )
    needed = _NEEDED.get(device)
    if needed and not _QUIET.fullmatch(has.get(needed, "")):
        raise UnsupportedError(
            f"the device {device} is in the way: what is behind it is not in the log", cure=f"Give it {needed}=quiet0."
        )


def _refuse_properties(option: str, words: str) -> None:
    ours = _NEEDED.get(words.partition(",")[0])
    for name, value in properties(words):
        if name in _OUTSIDE and not (name == ours and _QUIET.fullmatch(value)):
            raise UnsupportedError(
                f"{option} {words} is in the way: {name} reaches out of it", cure="Record without it."
            )
