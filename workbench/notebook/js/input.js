// Input: pointers and keys. A drag previews and acts when let go; Escape takes it back.

const SLACK = 4, GRAB = 14;

function listenToPointer(s) {
  const { canvas, overview, view, signal } = s;
  const on = (target, name, heard, more = {}) => target.addEventListener(name, heard, { signal, ...more });

  on(canvas, "pointerdown", (event) => {
    if (event.button) return;
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const kind = event.shiftKey ? "brush" : event.offsetY < AXIS ? "scrub" : "pan";
    s.drag = { kind, x: event.offsetX, y: event.offsetY, span: [...view.span], brush: [...s.brush], moved: false };
  });
  on(canvas, "pointermove", (event) => {
    const { drag } = s, x = event.offsetX;
    if (!drag) { s.preview = hit(s, x, event.offsetY); say(s); s.ask(); return; }
    if (Math.abs(x - drag.x) > SLACK && !drag.moved) { drag.moved = true; if (drag.kind === "pan") view.remember(); }
    if (drag.kind === "scrub") s.preview = scrubbed(s, x);
    else if (!drag.moved) return;
    else if (drag.kind === "brush") s.brush = [view.time(Math.min(x, drag.x)), view.time(Math.max(x, drag.x))];
    else {
      const by = ((x - drag.x) / view.inner) * (drag.span[1] - drag.span[0]);
      view.show(drag.span[0] - by, drag.span[1] - by, false);
    }
    say(s); s.ask();
  });
  on(canvas, "pointerup", (event) => {
    const { drag } = s;
    s.drag = null;
    if (!drag) return;
    if (drag.kind === "scrub") { const found = scrubbed(s, event.offsetX); s.preview = -1; s.choose(found); }
    else if (!drag.moved) s.choose(hit(s, event.offsetX, event.offsetY));
    else if (drag.kind === "brush") s.setBrush(s.brush);
    else view.changed(true);
  });
  on(canvas, "pointercancel", () => cancelDrag(s));
  on(canvas, "pointerleave", () => { if (!s.drag && s.preview >= 0) { s.preview = -1; say(s); s.ask(); } });
  // The page scrolls on unless the timeline has the focus, or Ctrl is held.
  on(canvas, "wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== canvas) return;
    event.preventDefault();
    if (!s.wheeling) view.remember();
    clearTimeout(s.wheeling);
    s.wheeling = setTimeout(() => { s.wheeling = 0; }, 400); // one turn of the wheel is one step to undo
    const sideways = event.deltaX || (event.shiftKey ? event.deltaY : 0);
    if (sideways) { const by = Math.sign(sideways) * view.size * 0.1; view.show(view.span[0] + by, view.span[1] + by); }
    else view.zoom(event.deltaY > 0 ? 1.25 : 0.8, view.time(event.offsetX), false);
  }, { passive: false });

  // The overview: drag the window, an edge of it, or anew.
  on(overview, "pointerdown", (event) => {
    if (event.button) return;
    overview.setPointerCapture(event.pointerId);
    const x = event.offsetX, left = view.overX(view.span[0]), right = view.overX(view.span[1]);
    const kind = Math.abs(x - left) < 6 ? "left" : Math.abs(x - right) < 6 ? "right" : x > left && x < right && right - left < view.inner * 0.95 ? "move" : "new";
    view.remember();
    s.drag = { kind, x, span: [...view.span], brush: [...s.brush], overview: true };
  });
  on(overview, "pointermove", (event) => {
    const { drag } = s;
    if (!drag?.overview) return;
    const time = view.overTime(event.offsetX), by = time - view.overTime(drag.x), [begin, end] = drag.span;
    if (drag.kind === "move") view.show(begin + by, end + by, false);
    else if (drag.kind === "left") view.show(Math.min(time, end), Math.max(time, end), false);
    else if (drag.kind === "right") view.show(Math.min(begin, time), Math.max(begin, time), false);
    else if (Math.abs(event.offsetX - drag.x) > SLACK) view.show(Math.min(time, time - by), Math.max(time, time - by), false);
  });
  on(overview, "pointerup", () => { if (s.drag?.overview) { s.drag = null; view.changed(true); } });
  on(overview, "pointercancel", () => cancelDrag(s));
}

function cancelDrag(s) {
  const { drag } = s;
  if (!drag) return false;
  s.drag = null; s.brush = drag.brush; s.preview = -1;
  s.view.show(...drag.span);
  say(s);
  return true;
}

// The capture under a point: of that lane, near enough to be meant; a mark's capture where a mark is hit.
function hit(s, x, y) {
  const lane = Math.floor((y - AXIS) / LANE);
  if (lane < 0 || lane >= s.lanes.length || x < GUTTER - GRAB) return -1;
  for (let i = s.marks.length - 1; i >= 0; i--) {
    const mark = s.marks[i];
    if (mark.lane === lane && Math.abs(s.view.x(mark.time) - x) < 6 && Math.abs(laneY(lane) - 14 - y) < 6) return indexOf(s.data, mark.capture);
  }
  const found = nearest(s.data, s.view.time(x), lane);
  return found >= 0 && Math.abs(s.view.x(s.data.time[found]) - x) <= GRAB ? found : -1;
}

// While the axis is dragged: the nearest capture of the chosen one's lane, else of any.
function scrubbed(s, x) {
  const time = s.view.time(x);
  if (s.cursor >= 0) return nearest(s.data, time, s.data.lane[s.cursor]);
  const after = Math.min(s.data.n - 1, lowerBound(s.data.time, time));
  return after > 0 && time - s.data.time[after - 1] < s.data.time[after] - time ? after - 1 : after;
}

function listenToKeys(s) {
  const byKey = new Map();
  for (const [name, , , keys] of ACTIONS) for (const key of keys) byKey.set(key, name);
  for (const [name, , keys] of MORE_KEYS) for (const key of keys) byKey.set(key, name);
  s.canvas.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey) return;
    if (event.ctrlKey && event.key !== "z") return;
    if (event.key === "Escape" && cancelDrag(s)) { event.preventDefault(); event.stopPropagation(); return; }
    const name = event.ctrlKey ? "undo" : byKey.get((event.shiftKey && event.key.startsWith("Arrow") ? "Shift+" : "") + event.key);
    if (!name) return;
    event.preventDefault(); event.stopPropagation();
    s.act(name);
  }, { signal: s.signal });
  for (const name of ["focus", "blur"]) s.canvas.addEventListener(name, () => s.ask(), { signal: s.signal });
}
