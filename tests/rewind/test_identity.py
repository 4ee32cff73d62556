"""Identity and clock of clones: memory's truth by default, another one on request, and nothing left where it fails."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rewinding import assert_healthy, rebooted, supervisor_of
from waiting import until

from workbench.case import Case, Identity, Moment
from workbench.demo import DemoGuest, Supervisor
from workbench.errors import GuestError, UnsupportedError, UsageError
from workbench.rewind import clone as cloning
from workbench.rewind import identity as identities
from workbench.rewind.identity import plan_change, with_macs

pytestmark = pytest.mark.guest

CARD = "<interface type='user'><mac address='52:54:00:AA:BB:CC'/></interface>"
CONSOLE = "<console type='pty'/>"
OWN = "52:54:00:12:34:56"
ASK = (
    "hostname; cat /etc/hostname; cat /etc/machine-id; cat /sys/class/net/eth0/address;"
    " ip -4 -o addr show dev eth0 | sed 's/.*inet \\([^ ]*\\).*/\\1/'"
)


def xml(*devices: str) -> str:
    return f"<domain><devices>{''.join(devices)}</devices></domain>"


@pytest.fixture(scope="module")
def planted(rew_guest: DemoGuest) -> Iterator[tuple[Moment, float, float]]:
    """A moment, and what the guest's clock said before and after it: a busy guest's is not the host's."""
    rew_guest.run(f"echo {'0' * 32} >/etc/machine-id; sync")
    with tempfile.TemporaryDirectory(prefix="rew-test-") as name:
        Path(name).chmod(0o711)
        with Case.create(Path(name) / "case") as case, case.record(rew_guest.name) as recording:
            before = clock_of(rew_guest)
            made = recording.capture("then", mark="then")
            yield made, before, clock_of(rew_guest)
    rew_guest.run("rm -f /etc/machine-id")


@pytest.fixture(scope="module")
def moment(planted: tuple[Moment, float, float]) -> Moment:
    return planted[0]


def clock_of(inside: Supervisor | DemoGuest) -> float:
    return float(inside.run("date -u +%s").stdout)


def test_a_clone_is_somebody_else_on_request_also_after_its_reboot(moment: Moment, rew_guest: DemoGuest) -> None:
    wanted = Identity("copy.example", OWN, "ab" * 16, "10.0.2.77/24")
    before = rew_guest.run(ASK).stdout
    with moment.clone(identity=wanted, clock="now") as clone, supervisor_of(clone, rew_guest) as inside:
        inside.wait_ready(60)
        assert inside.run(ASK).stdout.split() == ["copy.example", "copy.example", "ab" * 16, OWN, "10.0.2.77/24"]
        assert abs(clock_of(inside) - time.time()) < 30
        assert inside.run("cat /sys/class/net/eth0/carrier").stdout != "1\n"
        told = {"hostname": "copy.example", "mac": OWN, "machine_id": "ab" * 16, "address": "10.0.2.77/24"}
        assert moment.case.clones()[-1].record.identity == told
        assert_healthy(inside)
        rebooted(inside)
        assert inside.run("cat /etc/hostname /etc/machine-id").stdout.split() == ["copy.example", "ab" * 16]
        assert inside.run("cat /sys/class/net/eth0/address").stdout == f"{OWN}\n"
    assert rew_guest.run(ASK).stdout == before


def test_new_clones_of_a_segment_differ_in_everything_and_reach_each_other(
    moment: Moment, rew_guest: DemoGuest
) -> None:
    with (
        moment.clone(network="shared", segment="new", identity="new") as one,
        moment.clone(network="shared", segment="new", identity="new", run=False) as two,
    ):
        assert not two.running
        two.resume()
        first, second = (dict(each.record.identity) for each in (one, two))
        assert set(first) == {"hostname", "mac", "machine_id", "address"} == set(second)
        assert all(first[name] != second[name] for name in first)
        with supervisor_of(one, rew_guest) as inside:
            inside.wait_ready(60)
            assert inside.run(ASK).stdout.split() == [
                first["hostname"], first["hostname"], first["machine_id"], first["mac"], first["address"]
            ]  # fmt: skip
            other = second["address"].partition("/")[0]
            until(lambda: inside.run(f"ping -c 1 -W 2 {other}").rc == 0, "they see each other")


@pytest.mark.parametrize("step", ["the guest refuses", "the clock"])
def test_a_change_that_fails_leaves_no_clone(
    moment: Moment, rew_guest: DemoGuest, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    case = moment.case
    carry_out = identities.carry_out
    if step == "the guest refuses":

        def spoiled(guest: object, *words: object) -> object:
            """A guest whose machine id cannot be replaced: another file lies on it."""
            identities.run_in(guest, "mount -o bind /dev/null /etc/machine-id", timeout=60).check()  # type: ignore[arg-type]
            return carry_out(guest, *words)  # type: ignore[arg-type]

        monkeypatch.setattr(cloning, "carry_out", spoiled)
    else:

        def fail(*_words: object) -> None:
            raise GuestError("half way")

        monkeypatch.setattr(identities, "_step_clock", fail)
    with pytest.raises(GuestError):
        moment.clone(identity=Identity(machine_id=True), clock="now", network="shared", segment="failing")
    assert case.clones() == []
    assert list((case.path / "clones").iterdir()) == []
    assert [each.name for each in case.hypervisor.guests() if each.name.startswith(f"{rew_guest.name}-clone")] == []
    until(lambda: not case.segment("failing").running, "its segment ends")


def test_by_default_a_clone_is_who_memory_says_at_the_time_of_the_moment(
    planted: tuple[Moment, float, float], rew_guest: DemoGuest
) -> None:
    moment, before, after = planted
    until(lambda: clock_of(rew_guest) > after + 5, "the times can be told apart")
    with moment.clone(run=False) as clone:
        assert (dict(clone.record.identity), clone.record.clock) == ({}, "kept")
        present, resumed = clock_of(rew_guest), time.time()
        clone.resume()
        with supervisor_of(clone, rew_guest) as inside:
            inside.wait_ready(60)
            assert inside.run(ASK).stdout == rew_guest.run(ASK).stdout
            clock = clock_of(inside)
            assert before <= clock <= after + (time.time() - resumed) + 1
            assert clock < present + (time.time() - resumed) - 2


@pytest.mark.parametrize(
    "wanted",
    [
        Identity(hostname="a b"),
        Identity(hostname="$(reboot)"),
        Identity(hostname="-x"),
        Identity(hostname="x" * 65),
        Identity(hostname="a\n"),
        Identity(mac="52:54:00:12:34"),
        Identity(mac="53:54:00:12:34:56"),
        Identity(machine_id="ab"),
        Identity(address="10.0.2.7"),
        Identity(address="10.0.2.7/33"),
        Identity(address="10.0.2.7/24; reboot"),
        "old",
    ],
)
def test_what_cannot_be_an_identity_is_refused_before_anything_is_started(wanted: object) -> None:
    with pytest.raises(UsageError):
        plan_change(wanted, "kept", xml(CARD, CONSOLE), shared=False)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        plan_change(None, "later", xml(CARD, CONSOLE), shared=False)  # type: ignore[arg-type]


def test_a_guest_without_a_way_in_is_refused_before_anything_is_started() -> None:
    for identity, clock in (("new", "kept"), (None, "now")):
        with pytest.raises(UnsupportedError, match="neither"):
            plan_change(identity, clock, xml(CARD), shared=False)  # type: ignore[arg-type]
    assert not plan_change(None, "kept", xml(CARD), shared=False)
    agent = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    assert plan_change("new", "kept", xml(CARD, agent), shared=False)


def test_a_guest_without_a_card_gets_no_mac() -> None:
    with pytest.raises(UnsupportedError, match="card"):
        plan_change(Identity(mac=True), "kept", xml(CONSOLE), shared=False)
    change = plan_change("new", "kept", xml(CONSOLE), shared=False)
    assert (change.macs, change.address) == ({}, False)


def test_every_card_gets_a_mac_of_its_own_that_belongs_to_nobody() -> None:
    other = CARD.replace("CC", "DD")
    change = plan_change(Identity(mac=OWN.upper()), "kept", xml(CARD, other, CONSOLE), shared=False)
    assert change.macs["52:54:00:aa:bb:cc"] == OWN
    ours = change.macs["52:54:00:aa:bb:dd"]
    assert int(ours[:2], 16) & 3 == 2  # one card's, locally administered
    assert f'address="{OWN}"' in (made := with_macs(xml(CARD, other), change.macs))
    assert f'address="{ours}"' in made
