"""What a clone cannot be is told before anything is started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.case import Case, Identity, Moment
from workbench.errors import UnsupportedError, UsageError

RECORDED = Path(__file__).parents[2] / "datasets" / "intrusion" / "case"


@pytest.fixture
def moment() -> Iterator[Moment]:
    """A moment that was recorded on another host."""
    with Case(RECORDED) as case:
        yield case.moment("latest")


@pytest.mark.guest
def test_a_kernel_that_the_guest_had_and_this_host_has_not_is_named(moment: Moment) -> None:
    with pytest.raises(UnsupportedError, match="started with a kernel that is not on this host") as refused:
        moment.clone()
    assert str(refused.value.facts["file"]).endswith("/vmlinuz")
    assert not (RECORDED / "clones").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"network": "none", "segment": "lab"}, "segment"),
        ({"identity": Identity(hostname="-odd-")}, "hostname"),
        ({"clock": "later"}, "clock"),
    ],
)
def test_what_cannot_be_meant_is_told_first(moment: Moment, asked: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        moment.check_clone(**asked)  # type: ignore[arg-type]
