"""The packets of a pcap file of ours as a DataFrame.

Every byte of a packet was chosen by a guest: what cannot be parsed is a row that says so, and names from packets are
escaped. Refuses to put streams together, and to follow what a packet says about its own length past its end.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import FormatError
from workbench.rewind.network_hub import FRAME, HEADER, RECORD

__all__ = ["COLUMNS", "read_frames", "read_packets"]

COLUMNS = {
    "time": "datetime64[ns, UTC]",
    "source": "str",
    "destination": "str",
    "protocol": "str",
    "source_port": "Int32",
    "destination_port": "Int32",
    "length": "int64",
    "info": "str",
    "source_mac": "str",
    "destination_mac": "str",
}
_PLAIN = 14
"""Bytes of an Ethernet header: destination, source, type."""
_DNS = 53
_MOST_TEXT = 120
_TYPES = {0x0800: "IPv4", 0x0806: "ARP", 0x86DD: "IPv6"}
_DNS_TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV"}
_FLAGS = "FSRPAUEC"
"""TCP's flags from the lowest bit."""


def read_frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield time (ns since the epoch) and bytes of every whole frame; a torn last record is left out.

    Raises
    ------
    FormatError
        If this is no file of ours, or a record in it is impossible.
    """
    with path.open("rb") as file:
        if file.read(len(HEADER)) != HEADER:
            raise FormatError("no pcap file of a segment", path=str(path))
        while len(head := file.read(RECORD.size)) == RECORD.size:
            seconds, nanoseconds, length, _ = RECORD.unpack(head)
            if length > FRAME or nanoseconds >= 1_000_000_000:
                raise FormatError("an impossible record in a segment's pcap file", path=str(path), offset=file.tell())
            frame = file.read(length)
            if len(frame) < length:
                return
            yield seconds * 1_000_000_000 + nanoseconds, frame


def read_packets(path: Path, limit: int = 1_000_000) -> pd.DataFrame:
    """Return the packets of a file, oldest first.

    Parameters
    ----------
    limit : int
        Most rows; `attrs["truncated"]` says whether there was more.

    Returns
    -------
    DataFrame
        time (datetime64[ns, UTC]: when the hub had the whole frame), source, destination (str: IP addresses, else
        MACs), protocol (str: ARP, TCP, UDP, DNS, ICMP, ICMPv6, IPv4, IPv6, Ethernet), source_port, destination_port
        (Int32), length (int64, bytes of the frame), info (str, escaped), source_mac, destination_mac (str).
        Empty where there is no file yet.

    Raises
    ------
    FormatError
        If it is no file of ours.
    """
    rows: list[dict[str, Any]] = []
    truncated = False
    for time_ns, frame in read_frames(path) if path.exists() else ():
        if len(rows) >= limit:
            truncated = True
            break
        rows.append({"time": time_ns, "length": len(frame), **_told(frame)})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["time"] = pd.to_datetime(table["time"].astype("int64"), unit="ns", utc=True)
    table = table.astype({name: kind for name, kind in COLUMNS.items() if name != "time"})
    table.attrs["truncated"] = truncated
    return table


def _told(frame: bytes) -> dict[str, Any]:
    """Return what a frame says of itself; where it lies, what it said up to there."""
    row: dict[str, Any] = {"source": "", "destination": "", "protocol": "Ethernet", "info": ""}
    row |= {"destination_mac": _mac(frame[:6]), "source_mac": _mac(frame[6:12])}
    row |= {"source": row["source_mac"], "destination": row["destination_mac"]}
    if len(frame) < _PLAIN:
        return row | {"info": "cut short"}
    kind = int.from_bytes(frame[12:14], "big")
    row["protocol"] = _TYPES.get(kind, "Ethernet")
    row["info"] = "" if kind in _TYPES else f"type 0x{kind:04x}"
    import dpkt

    try:
        _inner(row, kind, frame[_PLAIN:])
    except (dpkt.Error, struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError):
        row["info"] = f"{row['info']} not understood".strip()
    return row


def _inner(row: dict[str, Any], kind: int, payload: bytes) -> None:
    import dpkt

    if kind == 0x0806:
        _arp(row, dpkt.arp.ARP(payload))
    elif kind in (0x0800, 0x86DD):
        packet = (dpkt.ip.IP if kind == 0x0800 else dpkt.ip6.IP6)(payload)
        row["source"], row["destination"] = _address(packet.src), _address(packet.dst)
        fragment = kind == 0x0800 and packet.offset
        if fragment:
            row["info"] = f"fragment at {packet.offset}"
        elif not isinstance(packet.data, bytes):
            _transport(row, packet.data)
        else:
            row["info"] = f"protocol {packet.p}"


def _arp(row: dict[str, Any], packet: Any) -> None:
    source, target = _address(packet.spa), _address(packet.tpa)
    row["source"], row["destination"] = source, target
    answer = f"{source} is at {_mac(packet.sha)}"
    row["info"] = {1: f"who has {target}? tell {source}", 2: answer}.get(packet.op, f"operation {packet.op}")


def _transport(row: dict[str, Any], packet: Any) -> None:
    import dpkt

    if isinstance(packet, (dpkt.tcp.TCP, dpkt.udp.UDP)):
        row["source_port"], row["destination_port"] = packet.sport, packet.dport
    if isinstance(packet, dpkt.tcp.TCP):
        flags = "".join(name for bit, name in enumerate(_FLAGS) if packet.flags >> bit & 1)
        row["protocol"], row["info"] = "TCP", f"[{flags}] seq {packet.seq} ack {packet.ack} data {len(packet.data)}"
    elif isinstance(packet, dpkt.udp.UDP):
        row["protocol"], row["info"] = "UDP", f"data {len(packet.data)}"
        if _DNS in (packet.sport, packet.dport):
            _dns(row, bytes(packet.data))
    elif isinstance(packet, (dpkt.icmp.ICMP, dpkt.icmp6.ICMP6)):
        row["protocol"] = "ICMP" if isinstance(packet, dpkt.icmp.ICMP) else "ICMPv6"
        row["info"] = f"type {packet.type} code {packet.code}"
    else:
        row["info"] = type(packet).__name__


def _dns(row: dict[str, Any], data: bytes) -> None:
    """Say the first question (RFC 1035, 4.1); answers are for who reads the file with a tool for it."""
    answers, place = int.from_bytes(data[6:8], "big"), 12
    labels: list[bytes] = []
    while 0 < (length := data[place]) < 64 and len(labels) < 128:
        labels.append(data[place + 1 : place + 1 + length])
        place += 1 + length
    kind = int.from_bytes(data[place + 1 : place + 3], "big")
    said = "answer" if data[2] & 0x80 else "query"
    name = _plain(b".".join(labels))
    row["protocol"] = "DNS"
    row["info"] = f"{said} {_DNS_TYPES.get(kind, kind)} {name}" + (f", {answers} answers" if said == "answer" else "")


def _plain(data: bytes) -> str:
    return data.decode("latin-1").encode("unicode_escape").decode("ascii")[:_MOST_TEXT]


def _mac(data: bytes) -> str:
    return data.hex(":")


def _address(data: bytes) -> str:
    return str(ipaddress.ip_address(data)) if len(data) in (4, 16) else _mac(data)
