"""A report is one file that needs nothing else, says the same in the same bytes, and lets nothing of a guest act."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from experimenting import EVIL, document
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.bench.browser import chromium, requests_of
from workbench.case import Case
from workbench.errors import UsageError
from workbench.experiment.document import Run
from workbench.experiment.frames import summary_frame
from workbench.experiment.picture import picture_of
from workbench.experiment.result import Experiment
from workbench.experiment.tables import number, table

BACKWARDS = "\u202egnp.exe"
LONG = "n" * 10_000
SVG = "{http://www.w3.org/2000/svg}"
ACTING = {"script", "iframe", "object", "embed", "link", "img", "form", "base", "image", "use", "foreignobject"}


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile(tmp_path: Path) -> Experiment:
    """Everything that a guest can say is hostile: numbers' names, texts, errors, console."""
    runs = [
        Run("control", 1, 1, "ok", seconds=1.0, values={"load": 1.0, f"load.{EVIL}": 2.0, "load.x": LONG}),
        Run("B", 1, 2, "ok", seconds=2.0, values={"load": 2.0, f"load.{EVIL}": 3.0, "load.x": BACKWARDS}),
        Run("B", 2, 3, "failed", "workload", f"workload: {EVIL}{BACKWARDS}", console=f"{EVIL}{BACKWARDS}{LONG}"),
    ]
    return Experiment(Case.create(tmp_path / "case"), document(runs))


@pytest.fixture
def page(hostile: Experiment, tmp_path: Path) -> Path:
    return hostile.report(tmp_path / "report.html", ("console", "files"))


def test_what_a_guest_says_is_text_and_no_more(hostile: Experiment, page: Path) -> None:
    for told in (page.read_text(), hostile._repr_html_()):
        found = Elements(told)
        assert not found.names & ACTING
        assert not {each for each in found.attributes if each.startswith("on")} | (found.attributes & {"src", "href"})
        assert "</title><script>alert(1)</script>" in found.text
        assert not [c for c in told if not c.isprintable() and c not in "\n\t"]
        assert LONG[:600] not in re.sub(r"<pre>.*?</pre>", "", told, flags=re.DOTALL)


def test_a_browser_runs_and_asks_for_nothing(page: Path) -> None:
    with chromium() as browser:
        browser.get(page.as_uri())
        assert browser.title == "Experiment"
        assert "<script>alert(1)</script>" in browser.find_element("tag name", "body").text
        assert set(requests_of(browser)) == {page.as_uri()}
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_the_same_result_is_the_same_bytes(hostile: Experiment, page: Path, tmp_path: Path) -> None:
    again = Experiment(hostile.case, hostile.document)
    assert again.report(tmp_path / "again.html", ("console", "files")).read_bytes() == page.read_bytes()


def test_a_report_says_what_was_asked_what_came_of_it_and_what_cannot_be_had(page: Path) -> None:
    told = Elements(page.read_text()).text
    for words in ("drawn from seed 42", "cat /proc/loadavg", "Mann-Whitney, exact, two-sided", "1 (1 failed)"):
        assert words in told, words
    assert "no run of 'B' was captured" in told


def test_a_report_takes_no_files_place_and_no_unknown_part(hostile: Experiment, page: Path, tmp_path: Path) -> None:
    before = page.read_bytes()
    with pytest.raises(UsageError, match="there already"):
        hostile.report(page)
    with pytest.raises(UsageError, match="no such part"):
        hostile.report(tmp_path / "new.html", ("secrets",))
    assert (page.read_bytes(), (tmp_path / "new.html").exists()) == (before, False)


def test_an_experiment_in_which_nothing_gave_a_number_has_a_page(tmp_path: Path) -> None:
    experiment = Experiment(None, document([Run("B", 1, 1, "hung", "start", "start: no")]))
    assert "No run gave a number." in experiment.report(tmp_path / "none.html", ()).read_text()
    assert ET.fromstring(experiment.picture().svg).tag == f"{SVG}svg"


def test_the_picture_has_a_ring_for_every_value_and_says_what_gave_none() -> None:
    picture = ET.fromstring(picture_of(document()).svg)
    assert len(picture.findall(f"{SVG}circle")) == 6
    told = [each.text for each in picture.iter(f"{SVG}text")]
    assert {"load", "control", "B", "1 failed, 1 hung"} <= set(told)


def test_the_control_is_the_lower_one_in_the_picture_too() -> None:
    rings: dict[str, list[float]] = {}
    for ring in ET.fromstring(picture_of(document()).svg).findall(f"{SVG}circle"):
        rings.setdefault(ring.attrib["cy"], []).append(float(ring.attrib["cx"]))
    control, other = (rings[each] for each in sorted(rings, key=float))
    assert max(control) < min(other)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4))
def test_any_numbers_have_a_picture_within_its_frame(values: list[float]) -> None:
    runs = [Run("B", at, at, "ok", values={"load": value}) for at, value in enumerate(values, 1)]
    picture = ET.fromstring(picture_of(document(runs)).svg)
    wide = float(picture.attrib["width"])
    places = [
        float(each.attrib[name]) for each in picture.iter() for name in ("cx", "x", "x1", "x2") if name in each.attrib
    ]
    assert all(0 <= place <= wide for place in places)
    marks = [each.text for each in picture.iter(f"{SVG}text") if each.get("text-anchor")]
    assert len(set(marks)) == len(marks) > 0


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, "0"),
        (3.14159, "3.142"),
        (123456.7, "123,457"),
        (1e12, "1.000e+12"),
        (-0.00001, "-1.000e-05"),
        (1000, "1,000"),
    ],
)
def test_numbers_can_be_read(value: float, told: str) -> None:
    assert number(value) == told


def test_a_long_table_is_cut_and_says_so() -> None:
    told = table(pd.DataFrame({"path": [f"/{each}" for each in range(250)]}))
    assert (told.count("<tr>"), "50 further rows are not shown." in told) == (201, True)


def test_failed_runs_stand_in_the_summary_beside_what_was_counted() -> None:
    row = summary_frame(document()).set_index("variant").loc["B"]
    assert (row["n"], row["failed"], row["hung"], row["difference"]) == (2, 1, 1, 9.0)
