"""Figures of memory analysis: symbols, plugins, lifelines, YARA, and what a worker holds, on one recorded guest.

Refuses to warm what a user would find cold: what is called cold runs in a new process with empty caches.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from workbench.bench.result import Peer, Result, measured
from workbench.bench.setting import Bench
from workbench.bench.tools import run
from workbench.bench.volatility import Dump, dump_of
from workbench.case import Case, Moment
from workbench.demo import DemoGuest
from workbench.demo.intrusion import play

__all__ = ["PLUGINS", "forensics"]

PLUGINS = (
    "linux.bash.Bash",
    "linux.boottime.Boottime",
    "linux.capabilities.Capabilities",
    "linux.ebpf.EBPF",
    "linux.elfs.Elfs",
    "linux.envars.Envars",
    "linux.iomem.IOMem",
    "linux.ip.Addr",
    "linux.ip.Link",
    "linux.kmsg.Kmsg",
    "linux.kthreads.Kthreads",
    "linux.library_list.LibraryList",
    "linux.lsmod.Lsmod",
    "linux.lsof.Lsof",
    "linux.malware.check_afinfo.Check_afinfo",
    "linux.malware.check_creds.Check_creds",
    "linux.malware.check_idt.Check_idt",
    "linux.malware.check_modules.Check_modules",
    "linux.malware.check_syscall.Check_syscall",
    "linux.malware.malfind.Malfind",
    "linux.malware.netfilter.Netfilter",
    "linux.malware.process_spoofing.ProcessSpoofing",
    "linux.mountinfo.MountInfo",
    "linux.pagecache.Files",
    "linux.pidhashtable.PIDHashTable",
    "linux.proc.Maps",
    "linux.psaux.PsAux",
    "linux.psscan.PsScan",
    "linux.pstree.PsTree",
    "linux.sockstat.Sockstat",
)
"""Thirty that are used every day."""
_PSLIST = "linux.pslist.PsList"
_INCREMENTS = 12
_THOUSAND_PAGES = "dd if=/dev/urandom of=/dev/shm/pages bs=4k count=600 2>/dev/null"
_SYMBOLS = """
import sys, tempfile, time
from pathlib import Path
from workbench.memory.physical import PhysicalMemory
from workbench.memory.symbols.cache import SymbolCache, symbols_for
from workbench.memory.symbols.kernel import find_kernel
from workbench.store import CaseStore
view = CaseStore.open(Path(sys.argv[1])).view(sys.argv[2])
with tempfile.TemporaryDirectory() as place:
    began = time.monotonic()
    memory = PhysicalMemory.of_capture(view)
    symbols_for(memory, find_kernel(memory), SymbolCache(Path(place)))
    print(time.monotonic() - began)
"""
_COLD = """
import sys
from workbench.case import Case
with Case(sys.argv[1]) as case:
    case.moment(sys.argv[2]).vol(sys.argv[3])
"""
_YARA = """
import sys, time
from pathlib import Path
from workbench.memory.rules import compile_rules
from workbench.memory.scan import changed_pages, scan_changed
from workbench.store import CaseStore
store = CaseStore.open(Path(sys.argv[1]))
rule = 'rule r{0} {{ strings: $a = "marker-{0}-alpha" $b = {{ 48 8b {1:02x} ?? e8 {1:02x} }} condition: any of them }}'
rules = compile_rules("\\n".join(rule.format(number, number % 256) for number in range(100)))
for before, after in zip(sys.argv[2:], sys.argv[3:]):
    pages = sum(map(len, changed_pages(store, before, after).values()))
    began = time.monotonic()
    scan_changed(store, before, after, rules)
    print(pages, time.monotonic() - began)
"""


def _record(bench: Bench, case: Case, guest: DemoGuest) -> None:
    """Record a guest that works; before each of the last captures it writes about 1,000 pages."""
    captures = bench.count(100, 6)
    with case.record(guest.name) as recording:
        for number in range(captures):
            if number > captures - _INCREMENTS:
                guest.run(_THOUSAND_PAGES)
            recording.capture("bench")
            time.sleep(0.2)


def forensics(bench: Bench) -> list[Result]:
    """Measure the analysis of memory beside Volatility's command line."""
    place = bench.place / "case-forensics"
    with bench.guest("forensics") as guest, Case.create(place, uri=bench.uri) as case:
        play(guest)
        guest.load("shell")
        _record(bench, case, guest)
    with Case(place) as case:
        moments = list(case.moments())
        dump = dump_of(moments[-1], bench.place / "dump-forensics")
        return [
            _symbols(bench, case),
            *_processes(bench, case, moments, dump),
            *_plugins(bench, moments[-1], dump),
            *_lifelines(case, len(moments)),
            _yara(case, moments),
            _worker(case),
        ]


def _symbols(bench: Bench, case: Case) -> Result:
    capture = case.moment().id
    samples = [float(run(sys.executable, "-c", _SYMBOLS, case.path, capture)) for _ in range(bench.count(5, 1))]
    how = "kernel found and table written, in a new process with nothing cached; imports not counted"
    return Result("symbol table from 512 MiB of RAM", "s", 2, tuple(samples), how)


def _forget(case: Case) -> None:
    """Drop the answers and kernels that a case keeps, so that the next question is really asked."""
    run("rm", "-rf", case.path / "cache")


def _cold(case: Case, plugin: str) -> float:
    _forget(case)
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", _COLD, case.path, "latest", plugin], check=True)
    return time.monotonic() - began


def _processes(bench: Bench, case: Case, moments: list[Moment], dump: Dump) -> list[Result]:
    count = bench.count(5, 1)
    dump.seconds(_PSLIST)  # its own caches are warm from here on
    peer = measured("vol", "its command line, caches warm", lambda: [dump.seconds(_PSLIST) for _ in range(count)])
    reach = peer.median or 0
    cold = tuple(_cold(case, _PSLIST) for _ in range(count))
    moments[0].vol(_PSLIST)
    warm = []
    for moment in moments[1 : count + 1]:
        began = time.monotonic()
        moment.vol(_PSLIST)
        warm.append(time.monotonic() - began)
    return [
        Result("pslist at a new moment, worker warm", "s", reach / 5, tuple(warm), "one call", (peer,)),
        Result(
            "pslist, first ever", "s", reach / 1.5, cold, "a new process and worker; the kernel is searched", (peer,)
        ),
    ]


def _plugins(bench: Bench, moment: Moment, dump: Dump) -> list[Result]:
    """Measure each of thirty plugins once, new to this moment, in a warm worker."""
    names = PLUGINS[: bench.count(len(PLUGINS), 3)]
    ratios, theirs, slower = [], [], []
    for name in names:
        began = time.monotonic()
        moment.vol(name)
        ours = time.monotonic() - began
        theirs.append(dump.seconds(name))
        ratios.append(ours / theirs[-1])
        if ratios[-1] > 1:
            slower.append(name)
    worst = max(range(len(names)), key=ratios.__getitem__)
    note = f"the worst, {names[worst]}: {ratios[worst]:.2f} of its time; slower than vol: {', '.join(slower) or 'none'}"
    how = "time as a part of the command line's, of each plugin once; the worst must be below 1"
    peer = Peer("vol", tuple(theirs), "seconds of its command line")
    return [Result(f"{len(names)} plugins, part of vol's time", "x", 1, tuple(ratios), how, (peer,), note)]


def _lifelines(case: Case, captures: int) -> list[Result]:
    _forget(case)
    times = []
    for _ in range(2):
        began = time.monotonic()
        found = case.lifelines("processes")
        times.append(time.monotonic() - began)
    note = f"{len(found)} lifelines over {captures} captures"
    name = f"lifelines of processes, {captures} captures"
    return [
        Result(f"{name}, cold", "s", 60, (times[0],), "as many local workers as cores", note=note),
        Result(f"{name}, cached", "s", 2, (times[1],), "the same call again"),
    ]


def _yara(case: Case, moments: list[Moment]) -> Result:
    ids = [moment.id for moment in moments[-_INCREMENTS:]]
    lines = run(sys.executable, "-c", _YARA, case.path, *ids).split()
    pages, seconds = [int(each) for each in lines[::2]], [float(each) for each in lines[1::2]]
    samples = tuple(1e6 * second / page for page, second in zip(pages, seconds, strict=True))
    note = f"increments of {statistics.median(pages):.0f} pages, {1000 * statistics.median(seconds):.1f} ms each"
    how = "scan of each increment, rules compiled, per 1,000 of its pages"
    return Result("YARA, 100 rules, per 1,000 changed pages", "ms", 50, samples, how, note=note)


def _worker(case: Case) -> Result:
    pid = case.analyst.worker.pid
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
    how = "VmHWM of the worker after all of the above"
    return Result("memory of a worker", "MB", 600, (peak / 1e6,), how)
