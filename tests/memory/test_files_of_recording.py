"""Files of the recorded intrusion, by the one door and the command line, against what the guest says that it did."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from workbench.case import Case
from workbench.errors import DiskError, UsageError

from .conftest import Recorded
from .test_command_line import document, workbench

LOG = "/var/log/auth.log"


def test_what_the_intruder_changed_is_found_fast_and_deep_alike(recorded: Recorded) -> None:
    diff = recorded.case.diff("clean", "wiped_log")
    files = diff.files().set_index("path")
    assert files.loc["/etc/passwd", "change"] == "modified"
    assert files.loc["/var/spool/cron/crontabs/cron.update", "change"] == "created"
    assert files.loc[LOG, "size_after"] == 0
    assert "/usr/bin/busybox" not in files.index
    pd.testing.assert_frame_equal(diff.files(), diff.files(deep=True), check_like=True)
    assert "+sysupd:x:0:0" in diff.text("/etc/passwd")
    with pytest.raises(DiskError, match="neither moment"):
        diff.text("/no/such/file")


def test_the_wiped_log_is_there_in_the_capture_before(recorded: Recorded) -> None:
    assert recorded.case.moment("wiped_log").read_text(LOG) == ""
    kept = recorded.case.moment("persistence").read_text(LOG)
    assert len(kept) == recorded.truth["wiped_log"]["bytes"]
    assert recorded.truth["break_in"]["address"] in kept
    versions = recorded.case.history(LOG)
    assert versions["size"].iloc[-1] == 0
    assert versions["present"].all()
    gone = recorded.case.history(str(recorded.truth["dropped_binary"]["path"]))
    assert not gone["present"].iloc[-1]


def test_files_are_listed_read_and_taken_out(recorded: Recorded, tmp_path: Path) -> None:
    moment = recorded.case.moment("clean")
    assert {"/etc/passwd", "/etc/hosts"} <= set(moment.ls("/etc")["path"])
    assert moment.stat("/bin")["kind"].iloc[0] == "directory"  # a link to /usr/bin, followed
    assert moment.stat("/bin", follow=False)["kind"].iloc[0] == "link"
    assert LOG in moment.glob("/var/log/*.log")["path"].tolist()
    assert moment.volumes()["kind"].tolist() == ["ext4"]
    with moment.open("/usr/bin/busybox") as file:
        content = file.read()
        file.seek(-4, 2)
        assert file.read() == content[-4:]
    manifest = moment.extract("/usr/bin/busybox", tmp_path / "out").set_index("path")
    assert manifest.loc["/usr/bin/busybox", "sha256"] == hashlib.sha256(content).hexdigest()
    with pytest.raises(DiskError, match="no such file"):
        moment.open("/no/such/file")
    with pytest.raises(DiskError, match="not a file"):
        moment.open("/etc")


def test_what_is_deleted_and_what_no_file_uses_is_told(recorded: Recorded) -> None:
    moment = recorded.case.moment("wiped_log")
    assert {"volume", "path", "intact"} <= set(moment.deleted().columns)
    free = moment.unallocated()
    assert (free["length"] > 0).all()
    assert free["length"].sum() > 50e6
    assert {"kind", "sha256", "offset"} <= set(moment.carve().columns)


def test_a_disk_is_exported_and_served_alike(recorded: Recorded, tmp_path: Path) -> None:
    disk = recorded.case.moment("clean").disk("vda")
    image = disk.export(tmp_path / "vda.qcow2")
    with disk.serve() as server:
        done = subprocess.run(
            ["qemu-img", "compare", str(image), server.uri], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.raises(UsageError, match="cannot be told"):
        disk.export(tmp_path / "vda")
    with pytest.raises(UsageError):
        recorded.case.moment("clean").disk("vdz")


def test_everything_is_in_the_order_of_time(recorded: Recorded) -> None:
    frame = recorded.case.diff("clean", "wiped_log").everything()
    assert frame.attrs["failed"] == {}
    assert frame["datetime"].is_monotonic_increasing
    started = frame[frame["timestamp_desc"] == "process started"]
    assert recorded.truth["backdoor"]["pid"] in started["pid"].tolist()
    assert "/etc/passwd" in frame["path"].tolist()


def test_the_command_line_shows_files_their_history_and_content(recorded: Recorded, tmp_path: Path) -> None:
    case = ("--case", recorded.case.path)
    rows = document("files", "clean", "wiped_log", *case)["rows"]
    assert "/etc/passwd" in {row["path"] for row in rows}
    assert "+sysupd" in workbench("files", "clean", "wiped_log", "--text", "/etc/passwd", *case).stdout
    assert len(workbench("cat", "persistence", LOG, *case).stdout) == recorded.truth["wiped_log"]["bytes"]
    assert document("history", LOG, *case)["rows"][-1]["size"] == 0
    out = tmp_path / "timeline.jsonl"
    document("export", "timeline", "clean", "wiped_log", out, "--format", "timesketch-jsonl", *case)
    assert '"timestamp_desc"' in out.read_text().splitlines()[0]
    assert Path(document("export", "disk", "clean", "vda", tmp_path / "a.raw", *case)["file"]).stat().st_size
    assert workbench("export", "files", "clean", "/etc", tmp_path / "etc", *case).returncode == 0
    assert (tmp_path / "etc" / "etc" / "passwd").is_file()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("cat", "clean", "/no/such"), 8, "no such file"),
        (("cat", "clean", "/etc/passwd", "--json"), 2, "JSON"),
        (("files", "clean", "nonsense"), 2, "nonsense"),
        (("export", "disk", "clean", "vdz", "x.raw"), 2, "vda"),
    ],
)
def test_what_is_wrong_about_files_is_said(recorded: Recorded, words: tuple[str, ...], code: int, said: str) -> None:
    done = workbench(*words, "--case", recorded.case.path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_a_question_of_disks_that_is_none_says_so(recorded: Recorded) -> None:
    with Case(recorded.case.path) as case, pytest.raises(UsageError, match="no question"):
        case.moment("clean").ask_disk("colours")
    with pytest.raises(UsageError, match="takes no colour"):
        recorded.case.moment("clean").ask_disk("walk", colour="red")
