"""The XML of a copy: what is replaced, what is kept, and what is refused, without any guest."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast
from xml.etree import ElementTree as ET

import pytest

from workbench.errors import UnsupportedError
from workbench.guest.mtree import ViewRange, parse_blocks, parse_ranges
from workbench.model import RegionKind, RegionSpec
from workbench.rewind.domain import clone_owner, clone_xml, same_xml
from workbench.rewind.mapped_xml import main_memory, with_mapping
from workbench.store import CaptureView

QEMU = "/usr/bin/qemu-system-x86_64"
DISK = (
    "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' io='native'/>"
    "<source file='/images/now.raw'/><backingStore/><target dev='vda' bus='virtio'/><serial>root</serial></disk>"
)


def guest(devices: str = "", *, extra: str = "", disk: str = DISK) -> str:
    return (
        f"<domain type='qemu'><name>web</name><uuid>6d0c1f5e-52d4-4a3b-9c0e-0123456789ab</uuid>{extra}"
        f"<devices><emulator>{QEMU}</emulator>{disk}{devices}</devices></domain>"
    )


def cloned(xml: str, *, network: bool = False) -> ET.Element:
    disks = {"vda": Path("/case/clones/1/disk0.qcow2")}
    there = Path("/case/clones/1")
    made = clone_xml(
        xml,
        name="copy",
        uuid="u",
        directory=there,
        sockets=Path("/sockets"),
        disks=disks,
        network=network,
        case="c-1",
        emulators=[QEMU],
    )
    return ET.fromstring(made)


def test_a_clone_has_its_own_identity_and_says_whose_it_is() -> None:
    root = cloned(guest())
    assert (root.findtext("name"), root.findtext("uuid")) == ("copy", "u")
    assert clone_owner(ET.tostring(root, encoding="unicode")) == "c-1"
    assert clone_owner(guest()) is None


def test_a_disk_becomes_an_overlay_that_libvirt_looks_under() -> None:
    [disk] = cloned(guest()).iterfind("./devices/disk")
    assert disk.find("source").attrib == {"file": "/case/clones/1/disk0.qcow2"}  # type: ignore[union-attr]
    assert disk.find("backingStore") is None
    assert disk.find("driver").attrib == {"name": "qemu", "type": "qcow2", "cache": "writeback"}  # type: ignore[union-attr]
    assert disk.findtext("serial") == "root"


@pytest.mark.parametrize(
    "kind", ["hostdev", "filesystem", "redirdev", "tpm", "shmem", "vsock", "smartcard", "crypto", "something-new"]
)
def test_a_device_whose_state_no_capture_holds_is_refused_by_name(kind: str) -> None:
    with pytest.raises(UnsupportedError, match=f"<{kind}>"):
        cloned(guest(f"<{kind}/>"))


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        (guest(extra="<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'/>"), "raw arguments"),
        (guest().replace(QEMU, "/tmp/evil"), "does not know"),
        (guest("<memory model='nvdimm'><source><path>/etc/shadow</path></source></memory>"), "a file of the host"),
        (guest("<rng model='virtio'><backend model='egd' type='tcp'/></rng>"), "a program of the host"),
        (guest("<interface type='hostdev'/>"), "host device"),
        (guest(extra="<os><nvram>/var/vars.fd</nvram></os>"), "UEFI"),
        (guest(disk=DISK.replace("vda", "vdz")), "does not hold"),
    ],
)
def test_what_a_stranger_could_slip_in_is_refused(xml: str, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        cloned(xml)


def test_media_stay_readable_and_only_that() -> None:
    media = (
        "<disk type='file' device='cdrom'><source file='/iso'/><target dev='sdc'/><readonly/></disk>"
        "<disk type='file' device='floppy'><source file='/floppy'/><target dev='fda'/></disk>"
    )
    [_vda, *others] = cloned(guest(media)).iterfind("./devices/disk")
    assert [disk.find("source").get("file") for disk in others] == ["/iso", "/floppy"]  # type: ignore[union-attr]
    assert all(disk.find("readonly") is not None for disk in others)


def test_every_card_stays_and_none_reaches_out() -> None:
    card = (
        "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><model type='virtio'/>"
        "<driver name='vhost' queues='4'/><target dev='vnet0'/><filterref filter='f'/>"
        "<address type='pci' bus='0x00' slot='0x03' function='0x0' domain='0x0000'/></interface>"
    )
    [cut] = cloned(guest(card)).iterfind("./devices/interface")
    assert cut.attrib == {"type": "user"}
    assert {each.tag for each in cut} == {"mac", "model", "driver", "address", "link"}
    assert cut.find("link").attrib == {"state": "down"}  # type: ignore[union-attr]
    [kept] = cloned(guest(card), network=True).iterfind("./devices/interface")
    assert kept.find("source").get("bridge") == "br0"  # type: ignore[union-attr]


def test_no_channel_screen_or_sound_leaves_the_clone() -> None:
    devices = (
        "<channel type='unix'><source mode='connect' path='/a/agent'/></channel>"
        "<channel type='unix'><source mode='bind' path='/b/agent'/></channel>"
        "<serial type='tcp'><source mode='connect' host='192.0.2.1' service='1'/><protocol type='raw'/></serial>"
        "<serial type='pty'><log file='/var/log/a'/></serial><serial type='pty'><log file='/var/log/b'/></serial>"
        "<graphics type='vnc' port='5900' listen='0.0.0.0'><listen type='address' address='0.0.0.0'/></graphics>"
        "<graphics type='sdl' display=':0'/><audio id='1' type='file' path='/home/x.wav'/>"
    )
    root = cloned(guest(devices))
    paths = [each.get("path") for each in root.iterfind("./devices/*/source") if each.get("path")]
    logs = [each.get("file") for each in root.iterfind("./devices/*/log")]
    assert len(set(paths)) == 3
    assert len(set(logs)) == 2
    assert {Path(each).parent for each in paths if each} == {Path("/sockets")}
    assert {Path(each).parent for each in logs if each} == {Path("/case/clones/1")}
    assert all(each.get("mode") == "bind" for each in root.iterfind("./devices/*/source") if each.get("path"))
    [screen] = root.iterfind("./devices/graphics")
    assert screen.attrib == {"type": "vnc", "autoport": "yes", "listen": "127.0.0.1"}
    assert list(screen) == []
    assert root.find("./devices/audio").attrib == {"id": "1", "type": "none"}  # type: ignore[union-attr]
    assert "192.0.2.1" not in ET.tostring(root, encoding="unicode")


def test_the_guest_itself_is_started_again_with_the_images_it_has_now() -> None:
    """An image that lies under today's overlay must not be written to, whatever the XML of then says."""
    then = guest().replace("now.raw", "then.raw")
    now = guest().replace("/images/now.raw", "/images/overlay.qcow2").replace("type='raw'", "type='qcow2'")
    [disk] = ET.fromstring(same_xml(then, now)).iterfind("./devices/disk")
    assert disk.find("source").get("file") == "/images/overlay.qcow2"  # type: ignore[union-attr]
    assert disk.find("driver").get("type") == "qcow2"  # type: ignore[union-attr]


def test_what_maps_memory_is_taken_out_again_and_nothing_else() -> None:
    """A clone of a clone, or a clone that is itself rewound, has a file of its own or none."""
    mapping = with_mapping(guest(), "pc.ram", "/proc/1/fd/3", 1 << 29)
    assert [each.get("value") for each in ET.fromstring(mapping).iterfind("./{*}commandline/{*}arg")] == [
        *("-object", "memory-backend-file,id=rwb-mapped-pc.ram,mem-path=/proc/1/fd/3,size=536870912,share=off"),
        *("-machine", "memory-backend=rwb-mapped-pc.ram"),
    ]
    assert ET.tostring(cloned(mapping)) == ET.tostring(cloned(guest()))
    assert "commandline" not in same_xml(mapping, guest())
    for evil in (("-machine", "-incoming"), ("memory-backend-file,", "secret,file=/etc/shadow,")):
        with pytest.raises(UnsupportedError, match="raw arguments"):
            cloned(mapping.replace(*evil))


@pytest.mark.parametrize(
    ("said", "block"),
    [
        ("<memory unit='KiB'>524288</memory>", "pc.ram"),
        ("<memory unit='GiB'>1</memory>", None),
        ("<memory>524288</memory><memoryBacking><hugepages/></memoryBacking>", None),
        ("<memory>524288</memory><maxMemory slots='2'>1048576</maxMemory>", None),
        ("<memory>524288</memory><cpu><numa><cell id='0' memory='524288'/></numa></cpu>", None),
        ("<memory>524288</memory><numatune><memory nodeset='0'/></numatune>", None),
        ("", None),
    ],
)
def test_only_memory_that_is_one_plain_block_is_mapped(said: str, block: str | None) -> None:
    spec = RegionSpec("pc.ram", RegionKind.MEMORY, 1 << 29, 4096)
    view = SimpleNamespace(record=SimpleNamespace(regions=[SimpleNamespace(spec=spec)]))
    assert main_memory(guest(extra=said), cast("CaptureView", view)) == block


def test_a_block_is_called_as_in_the_guest_wherever_qemu_names_it() -> None:
    blocks = parse_blocks(
        "              Block Name    PSize              Offset               Used              Total\n"
        "                            4 KiB  0x0000000000000000 0x0000000020000000 0x0000000020000000\n"
        "       rwb-mapped-pc.ram    4 KiB  0x0000000020000000 0x0000000020000000 0x0000000020000000\n"
    )
    assert blocks == {"pc.ram": (1 << 29, 0)}
    ranges = parse_ranges(
        "address-space: memory\n"
        "  0000000000000000-ffffffffffffffff (prio 0, i/o): system\n"
        "    0000000000000000-000000001fffffff (prio 0, ram): alias ram-below-4g"
        " @rwb-mapped-pc.ram 0000000000000000-000000001fffffff\n"
        "\n"
        "memory-region: rwb-mapped-pc.ram\n"
        "  0000000000000000-000000001fffffff (prio 0, ram): rwb-mapped-pc.ram\n"
    )
    assert ranges == (ViewRange(0, 1 << 29, "pc.ram", 0, False),)
