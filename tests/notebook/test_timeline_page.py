"""The timeline in a real browser: it draws, mouse and keys work, traits go both ways, nothing asks another machine."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("selenium")

from axe import axe, keep
from browser import opened, until
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from small import HOSTILE, MARKUP, NOON, Forked, Large

from workbench.case import Case
from workbench.notebook.timeline import Timeline

FRAMES = (Path(__file__).parent / "frames.js").read_text()
GUTTER, AXIS, LANE, RIGHT = 140, 26, 34, 12
MS = NOON / 1e6


class Shown:
    """A page that shows a timeline."""

    def __init__(self, browser: Chrome, widget: Timeline) -> None:
        self.browser = browser
        self.widget = widget
        self.canvas = browser.find_element(By.CSS_SELECTOR, ".wb-lanes")

    def get(self, trait: str) -> Any:
        return self.browser.execute_script("return window.model.get(arguments[0])", trait)

    def set(self, trait: str, value: Any) -> None:
        self.browser.execute_script("window.model.set(arguments[0], arguments[1])", trait, value)

    def until(self, check: Any) -> None:
        until(self.browser, check)

    def press(self, *keys: str) -> None:
        self.canvas.send_keys(*keys)

    def button(self, action: str) -> None:
        self.browser.find_element(By.CSS_SELECTOR, f'[data-action="{action}"]').click()

    def status(self) -> str:
        return self.browser.find_element(By.CSS_SELECTOR, ".wb-status").text

    def place(self, share: float, y: float) -> tuple[int, int]:
        """Where a share of the visible span and a height lie, from the canvas's middle, as ActionChains counts."""
        size = self.canvas.size
        inner = size["width"] - GUTTER - RIGHT
        return round(GUTTER + share * inner - size["width"] / 2), round(y - size["height"] / 2)

    def at(self, second: float, lane: int) -> tuple[int, int]:
        low, high = MS - 240, MS + 24_240  # all, and 1 % at each side
        return self.place((MS + second * 1000 - low) / (high - low), AXIS + lane * LANE + LANE - 12)

    def mouse(self) -> ActionChains:
        return ActionChains(self.browser, duration=20)


@contextmanager
def showing(browser: Chrome, widget: Timeline, theme: str = "light") -> Iterator[Shown]:
    with opened(browser, widget, theme):
        yield Shown(browser, widget)


@pytest.fixture
def forked(tmp_path: Path) -> Forked:
    return Forked(tmp_path / "case").build()


@pytest.fixture
def shown(browser: Chrome, forked: Forked) -> Iterator[Shown]:
    with Case(forked.path) as case, showing(browser, Timeline(case)) as page:
        yield page


def test_a_click_chooses_the_capture_under_it(shown: Shown, forked: Forked) -> None:
    for second, lane in ((6, 0), (20, 1), (0, 0)):
        shown.mouse().move_to_element_with_offset(shown.canvas, *shown.at(second, lane)).click().perform()
        assert shown.get("selected") == forked.ids[second][:16]
        assert forked.ids[second][:12] in shown.status()


def test_keys_choose_along_a_lane_and_between_lanes(shown: Shown, forked: Forked) -> None:
    steps = [
        (Keys.END, 24), (Keys.ARROW_LEFT, 22), (Keys.ARROW_LEFT, 20), (Keys.ARROW_LEFT, 20), (Keys.ARROW_UP, 8),
        (Keys.HOME, 0), (Keys.ARROW_RIGHT, 2), ("l", 24), ("m", 22), (",", 0), (".", 22),
    ]  # fmt: skip
    for key, second in steps:
        shown.press(key)
        assert shown.get("selected") == forked.ids[second][:16], (key, second)
    shown.press(Keys.ESCAPE)
    assert shown.get("selected") == ""


def test_zoom_pan_fit_and_undo_by_keys_and_buttons(shown: Shown) -> None:
    def wide() -> float:
        begin, end = shown.get("view")
        return float(end - begin)

    shown.press("+")
    shown.until(lambda: shown.get("view") and wide() == pytest.approx(24_480 / 2))
    shown.button("zoomIn")
    shown.until(lambda: wide() == pytest.approx(24_480 / 4))
    before = shown.get("view")
    shown.press(Keys.PAGE_UP)
    shown.until(lambda: shown.get("view")[0] < before[0])
    shown.press("u")
    shown.until(lambda: shown.get("view") == before)
    shown.button("fit")
    shown.until(lambda: wide() == pytest.approx(24_480))


def test_the_wheel_zooms_at_the_cursor(shown: Shown) -> None:
    shown.press(Keys.END)
    x, y = shown.at(6, 0)
    shown.mouse().move_to_element_with_offset(shown.canvas, x, y).perform()
    shown.browser.execute_script(
        "const c = arguments[0], r = c.getBoundingClientRect();"
        "c.dispatchEvent(new WheelEvent('wheel', {deltaY: -1, clientX: r.left + r.width / 2 + arguments[1],"
        "clientY: r.top + 40, bubbles: true, cancelable: true}))", shown.canvas, x,
    )  # fmt: skip
    shown.until(lambda: shown.get("view"))
    begin, end = shown.get("view")
    assert end - begin == pytest.approx(24_480 * 0.8)
    assert (MS + 6000 - begin) / (end - begin) == pytest.approx((6000 + 240) / 24_480, abs=0.005)


def test_a_drag_pans_previews_and_acts_when_let_go(shown: Shown) -> None:
    shown.press("+")
    shown.until(lambda: shown.get("view"))
    before = shown.get("view")
    drag = shown.mouse().move_to_element_with_offset(shown.canvas, *shown.place(0.5, 60)).click_and_hold()
    drag.move_by_offset(60, 0).move_by_offset(40, 0).perform()
    assert shown.get("view") == before
    shown.mouse().release().perform()
    shown.until(lambda: shown.get("view")[0] < before[0])


def test_escape_takes_a_drag_back(shown: Shown) -> None:
    shown.mouse().move_to_element_with_offset(shown.canvas, *shown.at(2, 0)).key_down(
        Keys.SHIFT
    ).click_and_hold().move_by_offset(80, 0).perform()
    shown.press(Keys.ESCAPE)
    shown.mouse().release().key_up(Keys.SHIFT).perform()
    assert shown.get("brush") == []


def test_shift_and_drag_is_a_span_and_so_are_brackets(shown: Shown) -> None:
    mouse = shown.mouse().move_to_element_with_offset(shown.canvas, *shown.at(2, 0)).key_down(Keys.SHIFT)
    (dx, _), (x0, _) = shown.at(8, 0), shown.at(2, 0)
    mouse.click_and_hold().move_by_offset(10, 0).move_by_offset(dx - x0 - 10, 0).release().key_up(Keys.SHIFT).perform()
    assert shown.get("brush") == pytest.approx([MS + 2000, MS + 8000], abs=60)
    shown.press(Keys.HOME, "[", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, "]")
    assert shown.get("brush") == [MS, MS + 4000]


def test_the_axis_is_looked_through_and_chooses_when_let_go(shown: Shown, forked: Forked) -> None:
    x, _ = shown.at(2, 0)
    far, _ = shown.at(6, 0)
    mouse = shown.mouse().move_to_element_with_offset(shown.canvas, x, shown.place(0, 10)[1])
    mouse.click_and_hold().move_by_offset(far - x, 0).perform()
    assert forked.ids[6][:12] in shown.status()
    assert shown.get("selected") == ""
    shown.mouse().release().perform()
    assert shown.get("selected") == forked.ids[6][:16]


def test_the_overview_chooses_what_is_visible_and_filters_nothing(shown: Shown) -> None:
    overview = shown.browser.find_element(By.CSS_SELECTOR, ".wb-overview")
    mouse = shown.mouse().move_to_element_with_offset(overview, 0, 0).click_and_hold().move_by_offset(100, 0)
    mouse.move_by_offset(100, 0).release().perform()
    shown.until(lambda: shown.get("view"))
    assert shown.get("view")[1] - shown.get("view")[0] < 12_000
    assert shown.get("brush") == []


def test_what_the_kernel_sets_is_shown(shown: Shown, forked: Forked) -> None:
    shown.set("selected", forked.ids[22])
    assert forked.ids[22][:12] in shown.status()
    shown.set("view", [MS, MS + 1000])
    shown.until(lambda: shown.browser.execute_script("return window.model.get('view')") == [MS, MS + 1000])
    shown.set("brush", [MS, MS + 5000])
    assert "5.0 s" in shown.status()


def test_new_captures_arrive_and_the_chosen_one_stays(shown: Shown, forked: Forked) -> None:
    shown.press("l")
    forked.append(26)
    assert shown.widget.refresh() == 1
    script = (
        "window.model.set('fresh', new DataView(Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0)).buffer))"
    )
    shown.browser.execute_script(script, base64.b64encode(shown.widget.fresh).decode())
    assert forked.ids[24][:12] in shown.status()
    shown.press(Keys.ARROW_RIGHT)
    assert shown.get("selected") == forked.ids[26][:16]


def test_a_note_is_sent_and_keys_belong_to_what_is_written(shown: Shown) -> None:
    shown.press("n")
    assert "Choose" in shown.status()
    shown.press("l", "n")
    field = shown.browser.switch_to.active_element
    field.send_keys("flag", Keys.ENTER)
    assert shown.browser.execute_script("return window.sent") == [{"ask": "note", "name": "flag", "note": ""}]


def test_the_focused_element_keeps_its_keys_from_jupyterlab(shown: Shown) -> None:
    assert shown.canvas.get_attribute("data-lm-suppress-shortcuts") == "true"
    shown.canvas.click()
    assert shown.browser.switch_to.active_element == shown.canvas


def test_every_button_has_a_name_and_a_picture_without_glyphs(shown: Shown) -> None:
    buttons = shown.browser.find_elements(By.CSS_SELECTOR, ".wb-bar button")
    assert len(buttons) == 16
    assert all(each.get_attribute("aria-label") and not each.text for each in buttons)
    assert all(each.find_elements(By.TAG_NAME, "svg") for each in buttons)


def test_a_link_to_the_chosen_moment_is_copied(shown: Shown, forked: Forked) -> None:
    shown.browser.execute_script(
        "window.copied = []; Object.defineProperty(navigator, 'clipboard', { configurable: true,"
        "value: { writeText: async (text) => { window.copied.push(text); } } })"
    )
    shown.press("c")
    assert "Choose" in shown.status()
    shown.press("l", "c")
    assert "not answered" in shown.status()  # this page has no kernel
    shown.widget.selected = forked.ids[24]
    shown.set("link", shown.widget.link)
    shown.button("copy")
    shown.until(lambda: shown.browser.execute_script("return window.copied") == [shown.widget.link])
    assert shown.widget.link in shown.status()


def test_clones_are_bars_and_a_list(browser: Chrome, forked: Forked) -> None:
    clone = SimpleNamespace(name=MARKUP, record=SimpleNamespace(capture=forked.ids[2], started_ns=NOON))
    with Case(forked.path) as case:
        case.clones = lambda: [clone]  # type: ignore[method-assign, assignment, list-item]
        with showing(browser, Timeline(case)) as shown:
            x, _ = shown.at(16, 0)  # of line 0 nothing is there but the bar, which goes on to the right
            at = round(x + shown.canvas.size["width"] / 2)
            pixels = browser.execute_script(
                "return [...arguments[0].getContext('2d').getImageData(arguments[1], 26, 1, 34).data]", shown.canvas, at
            )
            assert [0xCC, 0x79, 0xA7] in [pixels[each : each + 3] for each in range(0, len(pixels), 4)]
            shown.button("list")
            entry = browser.find_element(By.CSS_SELECTOR, ".wb-list-runs li button")
            assert MARKUP in entry.text
            assert axe(browser, ".wb-timeline") == []
            entry.click()
            assert shown.get("selected") == forked.ids[2][:16]


def test_lists_say_what_the_canvas_shows(shown: Shown, forked: Forked) -> None:
    shown.button("list")
    entries = shown.browser.find_elements(By.CSS_SELECTOR, ".wb-list-captures li button")
    assert len(entries) == 8
    entries[2].click()
    assert shown.get("selected") == forked.ids[4][:16]
    shown.browser.find_elements(By.CSS_SELECTOR, ".wb-list-marks li button")[1].click()
    assert shown.get("selected") == forked.ids[22][:16]


@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "control", "backwards", "long", "signs"])
def test_names_from_a_guest_do_nothing(browser: Chrome, tmp_path: Path, name: str) -> None:
    forked = Forked(tmp_path / "case").build(name)
    with Case(forked.path) as case:
        widget = Timeline(case)
        widget.selected = forked.ids[0]
        with showing(browser, widget) as shown:
            for action in ("list", "help"):
                shown.button(action)
            assert browser.execute_script("return window.hacked ?? null") is None
            assert browser.find_elements(By.CSS_SELECTOR, "#here img, #here script, #here b") == []
            text = browser.find_element(By.CSS_SELECTOR, ".wb-timeline").text
            assert "A" * 1000 not in text
            assert not set(text) & set("\x1b\x07\x00\u202e\u2066\u2028")
            if name == MARKUP:
                assert MARKUP in text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_drawn_in_the_colours_of_the_theme(browser: Chrome, theme: str) -> None:
    widget = Timeline(Large(2000))
    with showing(browser, widget, theme) as shown:
        shown.press("l", Keys.ARROW_LEFT)
        pixel = "return [...arguments[0].getContext('2d').getImageData(2, 40, 1, 1).data]"
        paper = browser.execute_script(pixel, shown.canvas)
        assert paper[:3] == ([255, 255, 255] if theme == "light" else [17, 17, 17])
        for action in ("list", "help"):
            shown.button(action)
        assert axe(browser, ".wb-timeline") == []
        keep(browser, f"timeline-{theme}")


@pytest.mark.parametrize("captures", [20_000, 100_000])
def test_many_captures_are_drawn(browser: Chrome, captures: int) -> None:
    """How long it took is printed, and is the bench's to judge."""
    with showing(browser, Timeline(Large(captures))) as shown:
        took = browser.execute_script("return window.took")
        frames = browser.execute_async_script(FRAMES)
        print(f"{captures} captures: drawn in {took:.0f} ms; zoom frame p95 {frames:.1f} ms")  # noqa: T201
        shown.press("l")
        assert len(shown.get("selected")) == 16
