"""The file browser over the recorded intrusion: directories when they are opened, content by pages, downloads."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from small import HOSTILE, MARKUP, inert

from workbench.case import Case
from workbench.errors import DiskError
from workbench.notebook.branches import Branches, ancestors, permissions
from workbench.notebook.files import FileBrowser
from workbench.notebook.preview import CHUNK, LARGEST, PAGE, Preview, hex_lines, is_text, text_lines

DATASET = Path(__file__).parents[2] / "datasets" / "intrusion"
LIMIT = 240.0


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    path = tmp_path_factory.mktemp("files") / "case"
    shutil.copytree(DATASET / "case", path)
    with Case(path) as opened:
        yield opened


def browse(case: Case, when: str = "latest", path: str = "/") -> FileBrowser:
    browser = FileBrowser(case.moment(when), path)
    assert browser.wait(LIMIT)
    return browser


def names(browser: FileBrowser, depth: int | None = None) -> list[str]:
    frame = browser.table.frame
    return list(frame["name"] if depth is None else frame["name"][frame["depth"] == depth])


def about(browser: FileBrowser) -> dict[str, str]:
    return dict(tuple(pair) for pair in browser.preview.about)


def chosen(browser: FileBrowser, path: str) -> None:
    frame = browser.table.frame
    browser.table.selected = int(frame.index[frame["path"] == path][0])
    assert browser.wait(LIMIT)


def opened(browser: FileBrowser) -> None:
    table = browser.table
    table._asked(table, {"ask": "open", "at": table.selected, "version": table.version}, None)
    assert browser.wait(LIMIT)


# The tree.


def test_a_directory_is_listed_when_it_is_opened_and_forgotten_when_it_is_closed(case: Case) -> None:
    browser = browse(case)
    root = names(browser)
    assert {"+ etc", "+ var"} <= set(root)
    assert not any(name.startswith("- ") for name in root)
    chosen(browser, "/etc")
    opened(browser)
    assert "- etc" in names(browser, 0)
    assert "  passwd" in names(browser, 1)
    assert browser.path == "/etc"
    assert browser.table.row is not None
    assert browser.table.row["path"] == "/etc"
    opened(browser)
    assert names(browser) == root


def test_a_path_is_gone_to(case: Case) -> None:
    browser = browse(case)
    browser._box.value = "/var/log/auth.log"
    assert browser.wait(LIMIT)
    assert browser.path == "/var/log/auth.log"
    assert browser.table.row is not None
    assert browser.table.row["name"] == "  auth.log"
    assert browser.table.row["depth"] == 2
    assert about(browser)["kind"] == "file"
    assert about(browser)["mode"].startswith("-rw")


def test_a_link_is_told_of_and_leads_on(case: Case) -> None:
    browser = browse(case)
    chosen(browser, "/bin")
    assert about(browser) | {"kind": "link", "leads to": "usr/bin"} == about(browser)
    opened(browser)
    assert browser.path == "/usr/bin"


def test_a_path_that_is_not_there_says_so_and_what_is_shown_stays(case: Case) -> None:
    browser = browse(case, path="/etc")
    browser.go(f"/nowhere/{MARKUP}")
    assert browser.wait(LIMIT)
    assert "no such file" in browser.work.error
    assert browser.path == "/etc"
    assert "- etc" in names(browser)


def test_at_another_moment_what_is_open_stays_open_as_far_as_it_is_there(case: Case) -> None:
    browser = browse(case, "alert-break_in", "/etc/passwd")
    before = browser.preview.body
    assert "sysupd" not in before
    browser.moment = case.moment("alert-backdoor")
    assert browser.wait(LIMIT)
    assert "sysupd" in browser.preview.body
    assert "- etc" in names(browser)
    assert browser.path == "/etc/passwd"


def test_deleted_entries_are_shown_on_request(case: Case) -> None:
    browser = browse(case)
    assert browser.deleted.layout.display == "none"
    assert len(browser.deleted.frame.columns) == 0
    browser._deleted.value = True
    assert browser.wait(LIMIT)
    assert browser.deleted.layout.display == ""
    assert {"path", "inode", "intact"} <= set(browser.deleted.frame.columns)
    assert browser.deleted.label.startswith("Deleted entries at 20")


def test_a_directory_with_very_many_names() -> None:
    count = 100_000
    listed = {"/": entries(["/many"], "directory"), "/many": entries([f"/many/{at:06}" for at in range(count)])}
    tree = Branches(listed.__getitem__)
    tree.open("/")
    tree.open("/many")
    frame = tree.frame()
    assert len(frame) == count + 1
    assert frame["name"].iloc[[0, 1, -1]].tolist() == ["- many", "  000000", f"  {count - 1:06}"]
    assert frame["depth"].iloc[[0, 1]].tolist() == [0, 1]


def test_directories_come_first_and_below_their_own() -> None:
    listed = {
        "/": pd.concat([entries(["/b", "/a"]), entries(["/z", "/y"], "directory")]),
        "/y": entries(["/y/in"], "directory"),
        "/y/in": entries(["/y/in/file"]),
    }
    tree = Branches(listed.__getitem__)
    for path in ("/", "/y", "/y/in"):
        tree.open(path)
    assert tree.frame()["path"].tolist() == ["/y", "/y/in", "/y/in/file", "/z", "/a", "/b"]
    assert tree.frame()["depth"].tolist() == [0, 1, 2, 0, 0, 0]
    tree.close("/y")
    assert tree.opened == ["/"]


def test_what_another_tree_has_open_is_opened_as_far_as_it_is_there() -> None:
    def ls(path: str) -> pd.DataFrame:
        if path == "/gone":
            raise DiskError("no such file or directory", path=path)
        return entries([])

    before = Branches(lambda _path: entries([]))
    for path in ("/", "/gone", "/here"):
        before.open(path)
    tree = Branches(ls)
    tree.like(before)
    assert tree.opened == ["/", "/here"]


def entries(paths: list[str], kind: str = "file") -> pd.DataFrame:
    frame = pd.DataFrame({"path": pd.Series(paths, dtype=object), "kind": kind, "size": 1, "modified": pd.NaT})
    return frame.assign(mode=0o644, uid=0, gid=0, inode=2, target=None)


def test_ancestors_and_permissions() -> None:
    assert ancestors("/a/b/c") == ["/", "/a", "/a/b"]
    assert ancestors("/") == ["/"]
    assert permissions("directory", 0o755) == "drwxr-xr-x"
    assert permissions("socket", 0o4711) == "?rws--x--x"


@pytest.mark.parametrize(
    "name", [*HOSTILE, "\udcff\udc80"], ids=["markup", "control", "backwards", "long", "signs", "bytes"]
)
def test_names_from_a_guest_do_nothing(name: str) -> None:
    path = "/" + name.replace("/", "_")

    class Told:
        record = type("Record", (), {"time_ns": 0})
        id = "0"

        def ls(self, _path: str) -> pd.DataFrame:
            return entries([path], "directory")

        def stat(self, asked: str, follow: bool = True) -> pd.DataFrame:
            none = dict.fromkeys(("changed", "accessed", "created"), pd.NaT)
            return entries([asked], "directory").assign(links=1, **none)

        def __repr__(self) -> str:
            return "<Told>"

    moment: Any = Told()
    browser = FileBrowser(moment)
    assert browser.wait(LIMIT)
    chosen(browser, path)
    assert browser.path == path
    shown = [browser._box.value, browser.preview.title, repr(browser), browser.still()]
    assert all("<img" not in each for each in shown[3:])
    assert all(not set(each) & set("\x1b\x07\x00\r\u202e\u2066\u2028\udcff") for each in shown)
    assert inert(browser.preview.title)


# The content.


class Heard(Preview):
    """A preview that keeps what it would send to its page."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[str, Any], bytes]] = []
        super().__init__()

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.append((content, buffers[0] if buffers else b""))

    def chunk(self, at: object, **more: Any) -> tuple[dict[str, Any], bytes] | None:
        self.sent.clear()
        self._asked(self, {"ask": "chunk", "at": at, "turn": self.turn, **more}, None)
        assert self._carrier.wait(LIMIT)
        return self.sent[-1] if self.sent else None


def shown(data: bytes, size: int | None = None) -> Heard:
    preview = Heard()
    preview.show(
        "/file", [("kind", "file")], len(data) if size is None else size,
        lambda offset, length: data[offset : offset + length], data[:PAGE],
    )  # fmt: skip
    return preview


def test_text_is_text_and_the_rest_is_hexadecimal() -> None:
    for data in (b"root:x:0\n", "\u00e4\u05d0 \U0001f600\n".encode(), b"\x1b[31mred\x1b[0m", b""):
        assert is_text(data)
    for data in (b"\x7fELF\x02\0", bytes(range(128, 256)), b"\x01\x02\x03 abc"):
        assert not is_text(data)


def test_text_can_do_nothing_on_a_page() -> None:
    body = text_lines(f"one\ttab\r\n{MARKUP}\x1b]0;x\x07\u202e\n".encode() + b"\xff" + b"A" * 5000)
    lines = body.split("\n")
    assert lines[0] == "one     tab\\r"
    assert lines[1] == f"{MARKUP}\\x1b]0;x\\x07\\u202e"
    assert lines[2].endswith("... (5001 characters)")


def test_hexadecimal_says_where_and_what() -> None:
    lines = hex_lines(b"GET / HTTP/1.1\r\n\0", 0x10000).split("\n")
    assert lines == [
        "00010000  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a  GET / HTTP/1.1..",
        "00010010  00                                                .",
    ]


def test_pages_are_read_as_they_are_turned_to() -> None:
    data = b"".join(f"line {at:08}\n".encode() for at in range(20_000))
    preview = shown(data)
    assert preview.pages == -(-len(data) // PAGE)
    assert preview.body == text_lines(data[:PAGE])
    preview.page = 2
    assert preview.wait(LIMIT)
    assert preview.body == text_lines(data[2 * PAGE : 3 * PAGE])
    preview.mode = "hex"
    assert preview.body.startswith(f"{2 * PAGE:08x}  ")
    preview.page = 99
    assert preview.page == preview.pages - 1


def test_a_page_that_cannot_be_read_is_not_the_one_before() -> None:
    def read(offset: int, length: int) -> bytes:
        raise DiskError("a block is missing")

    preview = Heard()
    preview.show("/file", [], 3 * PAGE, read, b"first")
    preview.page = 1
    assert preview.wait(LIMIT)
    assert (preview.body, preview.said) == ("", "This page could not be read.")
    told = preview.chunk(0)
    assert told is not None
    assert told[0]["chunk"] == -1


def test_a_download_comes_part_by_part_as_it_is_asked_for() -> None:
    data = os.urandom(2 * CHUNK + 5)
    preview, got = shown(data), b""
    while True:
        told = preview.chunk(len(got))
        assert told is not None
        assert told[0]["chunk"] == len(got)
        got += told[1]
        if told[0]["last"]:
            break
    assert got == data


@pytest.mark.parametrize("at", [-1, 10**9, "0", None])
def test_no_part_is_sent_that_is_not_of_the_file(at: object) -> None:
    assert shown(b"abc").chunk(at) is None


def test_a_part_of_an_earlier_file_is_not_sent() -> None:
    preview = shown(b"abc")
    assert preview.chunk(0, turn=preview.turn - 1) is None


def test_what_is_too_large_is_not_downloaded_and_the_cure_is_told() -> None:
    preview = shown(b"abc", LARGEST + 1)
    assert not preview.loads
    assert "extract" in preview.said
    assert preview.chunk(0) is None


def test_an_entry_without_content_has_no_pages() -> None:
    preview = shown(b"abc")
    preview.show("/directory", [("kind", "directory")])
    assert (preview.pages, preview.loads, preview.body) == (0, False, "")


def test_a_file_of_the_guest_is_downloaded_whole(case: Case) -> None:
    browser = browse(case, path="/etc/passwd")
    heard: list[bytes] = []
    preview = browser.preview
    preview.send = lambda content, buffers=None: heard.append(buffers[0])  # type: ignore[method-assign]
    preview._asked(preview, {"ask": "chunk", "at": 0, "turn": preview.turn}, None)
    assert preview._carrier.wait(LIMIT)
    with case.moment("latest").open("/etc/passwd") as file:
        assert b"".join(heard) == file.read()


def test_a_static_report_waits_for_the_tree_and_the_file(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    data, _ = FileBrowser(case.moment("latest"), "/etc/passwd")._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html"}
    assert "- etc" in data["text/html"]
    assert "root:" in data["text/html"]
