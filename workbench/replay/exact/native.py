"""What a captured guest's QEMU was started with, as a machine that can be recorded: the same devices, at their places.

A state loads only into the devices that it was taken of. libvirt says which those are (`domxml-to-native`), from the
captured XML as a clone would have it. What is behind them, files, channels, networks, is left out; the recording has
its own. Refuses, by name, every option and device of which it is not known that it can be left out or replayed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from workbench.errors import FormatError, UnsupportedError
from workbench.replay.exact.machine import A_DISK, Machine
from workbench.replay.exact.refusing import refuse_features

__all__ = ["machine_of"]

_SAYS_NOTHING = {
    *("-name", "-overcommit", "-uuid", "-display", "-chardev", "-mon", "-blockdev", "-netdev", "-audiodev", "-kernel"),
    *("-initrd", "-append", "-sandbox", "-msg", "-smbios", "-vnc", "-spice", "-boot", "-m", "-object", "-numa"),
}
"""Options with a value that the recording sets itself, or that lie behind a device; `-m` and `-numa` are in the layout
of memory, which is compared."""
_FLAGS = {"-S", "-no-user-config", "-nodefaults", "-no-shutdown", "-no-reboot"}
_FEATURES = {"-no-acpi": "acpi=off", "-no-hpet": "hpet=off"}
_KEPT = {"-rtc", "-watchdog-action"}
_HOSTS_FEATURES = ("dump-guest-core", "memory-backend", "kernel_irqchip", "graphics")
"""Properties of a machine that its guest does not see, or that say where memory comes from."""


@dataclass(slots=True)
class _Found:
    """What was found so far."""

    machine: str = ""
    cpu: str = ""
    disk: str = ""
    features: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    quiet: Iterator[int] = field(default_factory=count)


def machine_of(command: str, name: str, memory_mib: int) -> Machine:
    """Return the machine of a QEMU command line as libvirt writes it.

    Parameters
    ----------
    command : str
        Variables, program and arguments, quoted for a shell.
    name : str
        What the machine is called.
    memory_mib : int
        Its RAM.

    Raises
    ------
    UnsupportedError
        Naming the option or device that is in the way.
    FormatError
        If it is no such command line.
    """
    found = _Found()
    words = shlex.split(command)
    at = next((number for number, each in enumerate(words) if each.startswith("-")), len(words))
    while at < len(words):
        option = words[at]
        if option in _FLAGS:
            at += 1
        elif option in _FEATURES:
            found.features.append(_FEATURES[option])
            at += 1
        elif at + 1 < len(words):
            _take(found, option, words[at + 1])
            at += 2
        else:
            raise UnsupportedError(f"{option} is in the way: it is not known what it says of the machine")
    if not found.machine:
        raise FormatError("libvirt's command line names no machine type", found=command[:200])
    machine = Machine(
        name, memory_mib, "", ",".join([found.machine, *found.features]), found.cpu or "qemu64",
        arguments=tuple(found.arguments), disk=found.disk or A_DISK,
    )  # fmt: skip
    machine.check()
    return machine


def _take(found: _Found, option: str, value: str) -> None:
    """Take what one option says of the machine."""
    if option == "-machine":
        found.machine, *features = value.split(",")
        found.features += [each for each in features if each.partition("=")[0] not in _HOSTS_FEATURES]
        refuse_features(found.features)
    elif option == "-cpu":
        found.cpu = value
    elif option == "-device":
        _take_device(found, value)
    elif option in _KEPT:
        found.arguments += [option, value]
    elif option == "-global":
        found.arguments += [] if value.startswith("kvm") else [option, value]
    elif option in _REFUSALS:
        _REFUSALS[option](value)
    elif option not in _SAYS_NOTHING:
        raise UnsupportedError(
            f"{option} is in the way: it is not known what it says of the machine", found=value[:200],
            cure="Record a moment of a guest without it.",
        )  # fmt: skip


def _take_device(found: _Found, value: str) -> None:
    try:
        device = json.loads(value)
        driver = str(device.pop("driver"))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise FormatError("libvirt's command line has a device in another form", found=value[:200]) from error
    if driver == "isa-serial" and device.get("index") == 0:
        return  # the recorded console is that port
    if "drive" in device:
        if found.disk:
            raise UnsupportedError("a second disk is in the way: one disk is recorded", device=driver)
        found.disk = _words(driver, device, leave=("drive", "id", "bootindex", "iothread"))
        return
    if driver == "virtio-net-pci":
        device["tx"] = "timer"  # else it sends when our main loop comes to it, at no instruction of the guest's
    for behind in ("chardev", "rng"):
        if behind in device:
            device[behind] = f"quiet{next(found.quiet)}"
    found.arguments += ["-device", _words(driver, device, leave=("netdev", "bootindex", "host_mtu"))]


def _words(driver: str, properties: dict[str, Any], leave: Sequence[str]) -> str:
    kept = {name: value for name, value in properties.items() if name not in leave}
    return ",".join([driver, *(f"{name}={_word(value)}" for name, value in kept.items())])


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value)
    if "," in text:
        raise UnsupportedError("a property of a device is in the way: it has a comma", found=text[:200])
    return text


def _refuse_accelerator(value: str) -> None:
    if value.partition(",")[0] != "tcg":
        raise UnsupportedError(
            f"-accel {value} is in the way: the state of a guest under KVM is not known to load under TCG",
            cure="Record a moment of a guest of the type 'qemu', or boot the moment's disk (disk=).",
        )


def _refuse_processors(value: str) -> None:
    cpus, *shape = value.removeprefix("cpus=").split(",")
    if cpus != "1" or any(each.startswith("maxcpus=") and each != "maxcpus=1" for each in shape):
        raise UnsupportedError(
            "-smp is in the way: QEMU records and replays one vCPU", found=value, cure="Boot the moment's disk (disk=)."
        )


_REFUSALS: dict[str, Callable[[str], None]] = {"-accel": _refuse_accelerator, "-smp": _refuse_processors}
