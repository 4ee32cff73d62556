"""Figures of the notebook: the timeline of very many captures in JupyterLab, the quickstart, the explorer, imports.

A page is measured in headless Chromium without a graphics card, by its own clock. Refuses to measure a case that was
looked at before: each figure copies the dataset anew.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome

from workbench.bench.browser import chromium
from workbench.bench.lab import Notebook, jupyterlab
from workbench.bench.result import Result
from workbench.bench.setting import Bench
from workbench.bench.tools import run
from workbench.case import Case
from workbench.errors import UsageError

__all__ = ["notebooks"]

_ROOT = Path(__file__).parents[2]
_DATASET = _ROOT / "datasets" / "intrusion"
_QUICKSTART = _ROOT / "notebooks" / "00-quickstart.ipynb"
_LARGE = """from workbench.bench.large import Large
from workbench.notebook.timeline import Timeline
large = Large({captures})"""
_SHOW = """const [code] = arguments;
jupyterapp.shell.currentWidget.content.widgets[0].model.sharedModel.setSource(code);"""
# From a key that chooses to what the kernel says of the choice, in its table below the lanes.
_CHOOSE = """const [key, done] = arguments, canvas = document.querySelector(".wb-lanes");
const about = document.querySelector(".wb-about"), began = performance.now();
const seen = new MutationObserver(() => {
  seen.disconnect(); requestAnimationFrame(() => done(performance.now() - began));
});
seen.observe(about, { childList: true });
canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));"""
_FRAMES = """const done = arguments[0], canvas = document.querySelector(".wb-lanes"), took = [];
canvas.focus();
let left = 60;
const turn = () => {
  const began = performance.now(), at = { clientX: 600, clientY: 120, bubbles: true, cancelable: true };
  canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: left % 8 < 4 ? -1 : 1, ...at }));
  requestAnimationFrame(() => { took.push(performance.now() - began); if (--left) turn(); else done(took); });
};
turn();"""
_MOMENTS = """import gc, sys
from pathlib import Path
from workbench.case import Case
from workbench.notebook.app import App

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

with Case(sys.argv[1]) as case:
    shown, ids = App(case), list(case.timeline()["id"])
    for at in range(int(sys.argv[2])):
        shown.timeline.selected = ids[at * 7 % len(ids)]
        shown.panes["Explorer"].widget.wait(60)
        if at == 19:
            gc.collect()
            before = resident()
    gc.collect()
    print(resident() - before)
"""
_IMPORT = "import time; began = time.perf_counter(); import workbench; print(time.perf_counter() - began)"


def notebooks(bench: Bench) -> list[Result]:
    """Measure all of it."""
    if not _DATASET.is_dir():
        raise UsageError("the dataset is not here", path=str(_DATASET), cure="Run the bench in a checkout.")
    place = bench.place / "notebooks"
    place.mkdir()
    results = []
    with jupyterlab(place) as address, chromium() as browser:
        for captures, reach in ((20_000, 600), (100_000, 1200)):
            count = bench.count(5, 1)
            pages = [_page(browser, address, place, captures, f"{captures}-{at}.ipynb") for at in range(count)]
            results += _timeline_results(captures, reach, pages)
    return [*results, _quickstart(bench), _first_table(bench), _growth(bench), _import(bench)]


def _page(browser: Chrome, address: str, place: Path, captures: int, name: str) -> dict[str, list[float]]:
    """Show a timeline in a new notebook; return what took how long (ms)."""
    notebook = Notebook(browser, address, place, name, "")
    notebook.ask(_LARGE.format(captures=captures))  # imports and the history itself are not what is measured
    browser.execute_script(_SHOW, "timeline = Timeline(large)\ntimeline")
    render = notebook.run()
    browser.execute_async_script(_CHOOSE, "l")
    keys = ["ArrowLeft"] * 10
    chosen = [float(browser.execute_async_script(_CHOOSE, key)) for key in keys]
    frames: list[Any] = browser.execute_async_script(_FRAMES)
    return {"render": [render], "chosen": chosen, "frames": [float(each) for each in frames]}


def _timeline_results(captures: int, reach: float, pages: list[dict[str, list[float]]]) -> list[Result]:
    def samples(name: str) -> tuple[float, ...]:
        return tuple(each for page in pages for each in page[name])

    what = f"timeline of {captures:,} captures"
    return [
        Result(f"{what}: render", "ms", reach, samples("render"), "from running the cell to drawn, in JupyterLab"),
        Result(f"{what}: choice to table", "ms", 100, samples("chosen"), "a key, the kernel, its answer on the page"),
        Result(f"{what}: zoom frame", "ms", 33, samples("frames"), "60 turns of the wheel", reach_p95=33),
    ]


def _copied(bench: Bench, name: str) -> Path:
    """Return a copy of the dataset's case that nothing was asked of yet, in a tree like the checkout's."""
    kept = shutil.ignore_patterns("cache")  # answers of whoever used this checkout
    return Path(shutil.copytree(_DATASET, bench.place / name / "datasets" / "intrusion", ignore=kept)) / "case"


def _quickstart(bench: Bench) -> Result:
    """Run the quickstart in a new kernel each time, its case never looked at before."""
    samples = []
    for at in range(bench.count(3, 1)):
        _copied(bench, f"quickstart-{at}")
        folder = bench.place / f"quickstart-{at}" / "notebooks"
        folder.mkdir()
        shutil.copy(_QUICKSTART, folder)
        began = time.monotonic()
        words = ("--to", "notebook", "--execute", "--output", "run.ipynb", folder / _QUICKSTART.name)
        run(sys.executable, "-m", "nbconvert", *words, env={"XDG_CACHE_HOME": str(folder / "cache")})
        samples.append(time.monotonic() - began)
    return Result("quickstart, run all", "s", 15, tuple(samples), "nbconvert --execute, its own start counted")


def _first_table(bench: Bench) -> Result:
    """Open moments of the dataset in turn, each for the first time, in one process as an analyst's kernel is."""
    from workbench.notebook.explorer import Explorer

    samples = []
    with Case(_copied(bench, "first-table")) as case:
        ids = list(case.timeline()["id"])
        explorer = Explorer(case.moment(f"id:{ids[0]}"))
        explorer.wait(120)
        for capture in ids[1 : bench.count(12, 3)]:
            began = time.monotonic()
            explorer.moment = case.moment(f"id:{capture}")
            explorer.wait(120)
            samples.append(time.monotonic() - began)
    return Result("explorer, first table at a new moment", "s", 2, tuple(samples), "processes, the worker started")


def _growth(bench: Bench) -> Result:
    moments = bench.count(200, 24)
    samples = tuple(
        float(run(sys.executable, "-c", _MOMENTS, _copied(bench, f"growth-{at}"), str(moments)))
        for at in range(bench.count(2, 1))
    )
    return Result(f"kernel memory, {moments} moments opened", "MB", 200, samples, "the dashboard's process, after 20")


def _import(bench: Bench) -> Result:
    samples = tuple(float(run(sys.executable, "-c", _IMPORT)) for _ in range(bench.count(10, 3)))
    note = f"slowest {max(samples):.3f} s, median {statistics.median(samples):.3f} s"
    return Result(
        "import workbench", "s", 0.4, samples, "a new process each time, Python's own start not counted", note=note
    )
