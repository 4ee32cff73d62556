"""The demo image is built once, whole, and without apt's answer the one that is there is used."""

from __future__ import annotations

import pytest

from workbench.demo import image as image_module
from workbench.demo import packages
from workbench.demo.accel import probe_kvm
from workbench.demo.commands import find_tool, run_tool
from workbench.errors import UnsupportedError, WorkbenchError


@pytest.fixture
def no_apt(monkeypatch):
    def resolve(empty):
        raise UnsupportedError("apt's lists do not know it", cure="apt-get update")

    monkeypatch.setattr(packages, "resolve", resolve)
    monkeypatch.setattr(image_module, "_given", {})


def test_image_is_whole(demo_image):
    assert demo_image.kernel.read_bytes()[0x202:0x206][0] > 0
    assert demo_image.initrd.read_bytes()[:2] == b"\x1f\x8b"
    assert demo_image.disk.read_bytes()[:4] == b"QFI\xfb"


def test_building_again_gives_the_same(demo_image):
    assert image_module.build_demo_image() == demo_image


def test_without_apt_an_older_build_is_used(no_apt, tmp_path):
    older = tmp_path / f"image-{image_module._recipe_digest()}-0000"
    older.mkdir()
    assert image_module.build_demo_image(tmp_path).disk.parent == older


def test_without_apt_and_cache_the_cure_is_named(no_apt, tmp_path):
    with pytest.raises(UnsupportedError, match="apt-get update"):
        image_module.build_demo_image(tmp_path)


def test_a_failed_build_leaves_the_cache_as_it_was(monkeypatch, tmp_path):
    def fail(*_):
        raise WorkbenchError("no network")

    monkeypatch.setattr(packages, "download", fail)
    with pytest.raises(WorkbenchError, match="no network"):
        image_module.build_demo_image(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["image.lock"]


def test_missing_tool_names_its_package():
    with pytest.raises(UnsupportedError, match="apt-get install no-such-tool"):
        find_tool("no-such-tool")


def test_failing_tool_is_told_with_its_words():
    with pytest.raises(WorkbenchError, match=r"status 1: .*nowhere"):
        run_tool("qemu-img", "info", "nowhere")


def test_probe_gives_a_reason_and_remembers_it():
    assert probe_kvm() == probe_kvm()
    assert probe_kvm()[1]
