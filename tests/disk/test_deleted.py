"""Deleted files: what the file system remembers, with its content where nobody took it; nothing where nothing was."""

from __future__ import annotations

from pathlib import Path

from workbench.disk.deleted import COLUMNS, deleted_files
from workbench.disk.mounted import open_disks

from . import images
from .images import BIG, run


def test_a_deleted_inode_of_ext_with_its_clusters(source: Path, tmp_path: Path) -> None:
    file = images.ext(tmp_path / "disk", source)
    clean = deleted_files(open_disks(images.view_of(tmp_path / "clean", vda=file)))
    assert len(clean) == 0
    assert dict(clean.dtypes.astype(str)) == COLUMNS
    blocks = run("debugfs", "-R", "blocks /big", file).decode().split()
    number = run("debugfs", "-R", "stat /big", file).decode().split()[1]
    commands = [f"freeb {blocks[0]} {len(blocks)}", f"sif <{number}> links_count 0", f"sif <{number}> dtime 20200913"]
    (tmp_path / "commands").write_text("\n".join([*commands, f"freei <{number}>", "unlink /big", ""]))
    run("debugfs", "-w", "-f", tmp_path / "commands", file)
    disks = open_disks(images.view_of(tmp_path / "case", vda=file))
    found = deleted_files(disks)
    row = found[found["inode"] == int(number)].iloc[0]
    assert (row["size"], row["clusters"], row["intact"]) == (len(BIG), len(blocks), True)
    assert disks.mounted[0].filesystem.open(int(number)).readall() == BIG


def test_a_deleted_file_of_fat_whose_clusters_were_taken(tmp_path: Path) -> None:
    file = images.fat(tmp_path / "disk", 16)
    run("mdel", "-i", file, "::/A name that is long.dat")
    whole = deleted_files(open_disks(images.view_of(tmp_path / "whole", vda=file)))
    assert whole["intact"].tolist() == [True]
    assert whole["size"].tolist() == [1 << 18]
    (tmp_path / "new").write_bytes(b"x" * (63 << 20))
    run("mcopy", "-i", file, tmp_path / "new", "::/new")
    taken = deleted_files(open_disks(images.view_of(tmp_path / "taken", vda=file)))
    assert True not in taken["intact"].tolist()


def test_a_file_system_that_cannot_tell_is_named(tmp_path: Path) -> None:
    file = images.xfs(tmp_path / "disk", tmp_path)
    found = deleted_files(open_disks(images.view_of(tmp_path / "case", vda=file)))
    assert len(found) == 0
    assert "does not remember" in found.attrs["findings"][0]
