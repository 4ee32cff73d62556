// The map of memory: cells on a canvas, a legend that filters, a list for those who do not see the canvas.

const PAGE = 4096, CELL = 13, CAPTION = 18, BELOW = 4, LISTED = 100;

// From the columns of bytes to arrays: first pages (f64), then per kind how many of each cell's pages changed (u32).
function decodeCells(view, kinds) {
  const n = view && view.byteLength ? view.byteLength / (8 + 4 * kinds) : 0;
  const bytes = n ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : new ArrayBuffer(0);
  const low = new Float64Array(bytes, 0, n), counts = [], most = new Int16Array(n).fill(-1), sum = new Uint32Array(n);
  for (let k = 0; k < kinds; k++) counts.push(new Uint32Array(bytes, 8 * n + 4 * k * n, n));
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < kinds; k++) {
      sum[i] += counts[k][i];
      if (counts[k][i] && (most[i] < 0 || counts[k][i] > counts[most[i]][i])) most[i] = k;
    }
  }
  return { n, low, counts, most, sum };
}

// Where each cell is drawn: bands one below the other, each with a line of words above it.
function arrange(s) {
  s.across = Math.max(8, Math.floor((s.width - 2) / CELL));
  s.rows = [];
  let y = 0;
  s.bands.forEach((band, at) => {
    const end = s.bands[at + 1]?.first ?? s.cells.n;
    s.rows.push({ y, band });
    y += CAPTION;
    for (let first = band.first; first < end; first += s.across) {
      s.rows.push({ y, first, count: Math.min(s.across, end - first) });
      y += CELL;
    }
    y += BELOW;
  });
  s.height = Math.max(y, CAPTION);
}

const hex = (number) => `0x${number.toString(16)}`;
const bandOf = (s, i) => s.bands.findLast((band) => band.first <= i) ?? { base: 0, name: "" };

function placeText(s, i) {
  const band = bandOf(s, i), begin = (s.cells.low[i] - band.base) * PAGE;
  const range = `${hex(begin)} to ${hex(begin + s.step * PAGE)}`;
  return band.name ? `outside the guest's view, ${isolated(band.name)} ${range}` : range;
}

function cellText(s, i) {
  const { counts, sum } = s.cells;
  const owners = s.kinds.map((name, k) => [counts[k][i], name]).filter(([count]) => count).sort((a, b) => b[0] - a[0]);
  const words = owners.map(([count, name]) => `${isolated(name)} ${count}`).join(", ");
  return `${placeText(s, i)}: ${sum[i]} of ${s.step} pages changed${words ? `: ${words}` : ""}`;
}

// Paint.

const PATTERNS = {
  solid: () => {},
  stripes: (g, x, y, r) => { for (let d = 4; d < 2 * r; d += 4) { g.moveTo(x + Math.max(0, d - r), y + Math.min(d, r)); g.lineTo(x + Math.min(d, r), y + Math.max(0, d - r)); } },
  bars: (g, x, y, r) => { for (let d = 2.5; d < r; d += 3) { g.moveTo(x, y + d); g.lineTo(x + r, y + d); } },
  dots: (g, x, y, r) => { for (let a = 2; a < r; a += 4) for (let b = 2; b < r; b += 4) g.rect(x + a - 0.5, y + b - 0.5, 1, 1); },
};

function square(g, x, y, side, [colour, pattern]) {
  g.fillStyle = colour;
  g.fillRect(x, y, side, side);
  g.strokeStyle = "#000000"; g.lineWidth = 1;
  g.beginPath(); PATTERNS[pattern]?.(g, x, y, side); g.stroke();
}

function surface(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.font = "11px sans-serif"; g.textBaseline = "middle";
  return g;
}

const inSpan = (s, i) => s.span.length === 2 && s.cells.low[i] < s.span[1] && s.cells.low[i] + s.step > s.span[0];

function paintCell(g, s, i, x, y) {
  const { most, counts } = s.cells, only = s.kinds.indexOf(s.owner);
  const kind = only < 0 ? most[i] : counts[only][i] ? only : -1;
  g.fillStyle = s.colours.raised; g.fillRect(x, y, CELL - 1, CELL - 1);
  g.globalAlpha = s.span.length === 2 && !inSpan(s, i) ? 0.45 : 1;
  if (kind >= 0) square(g, x, y, CELL - 1, s.looks[kind]);
  g.globalAlpha = 1;
}

function ring(g, x, y, colour, paper) {
  g.lineWidth = 3; g.strokeStyle = paper; g.strokeRect(x - 0.5, y - 0.5, CELL, CELL);
  g.lineWidth = 2; g.strokeStyle = colour; g.strokeRect(x - 0.5, y - 0.5, CELL, CELL);
}

function paintCaption(g, s, y, band) {
  const begin = hex((s.cells.low[band.first] - band.base) * PAGE);
  const where = band.name ? `outside the guest's view: ${isolated(band.name)} ${begin}` : begin;
  g.fillStyle = s.colours.ink;
  g.fillText(band.hole ? `${band.hole}, then ${where}` : where, 2, y + CAPTION / 2, s.width - 4);
}

function paint(s) {
  const css = getComputedStyle(s.root), pick = (name) => css.getPropertyValue(name).trim();
  s.colours = { ink: pick("--wb-ink"), paper: pick("--wb-paper"), accent: pick("--wb-accent"), raised: pick("--wb-raised") };
  const g = surface(s.canvas, s.width, s.height), rings = [];
  let last = null;
  g.fillStyle = s.colours.paper; g.fillRect(0, 0, s.width, s.height);
  for (const row of s.rows) {
    if (row.band) { paintCaption(g, s, row.y, row.band); continue; }
    for (let k = 0; k < row.count; k++) {
      const i = row.first + k, x = 1 + k * CELL;
      paintCell(g, s, i, x, row.y);
      if (inSpan(s, i)) rings.push([x, row.y, s.colours.accent]);
      if (i === s.focus && s.focused) last = [x, row.y, s.colours.ink];
    }
  }
  for (const [x, y, colour] of last ? [...rings, last] : rings) ring(g, x, y, colour, s.colours.paper);
}

// What can be done: name, words, keys. The same list makes the buttons and the keys.
const ACTIONS = [
  ["zoomIn", "Zoom in", ["+", "="]], ["zoomOut", "Zoom out", ["-", "_"]], ["fit", "All", ["f"]],
  ["earlier", "Lower", ["PageUp"]], ["later", "Higher", ["PageDown"]],
  ["previous", "Previous change", ["p"]], ["next", "Next change", ["n"]],
  ["choose", "Choose", ["Enter", " "]], ["clear", "Choose nothing", ["Escape"]], ["list", "List", ["t"]],
];
const MOVES = { ArrowLeft: () => -1, ArrowRight: () => 1, Home: () => -Infinity, End: () => Infinity };

function setView(s, low, high) {
  const [first, end] = s.ends, size = Math.max(1, Math.min(end - first, Math.round(high - low)));
  const begin = Math.max(first, Math.min(end - size, Math.round(low)));
  s.save({ view: begin <= first && begin + size >= end ? [] : [begin, begin + size] });
}

// Zoom so that the cell with the focus stays in view: cells are counted, since most of the line may be a hole.
function zoom(s, factor) {
  const { n, low } = s.cells;
  if (!n) return;
  const half = Math.max(1, (n * factor) / 2), at = Math.max(0, s.focus);
  if (factor < 1) {
    const from = Math.max(0, Math.min(n - 2 * half, at - half));
    setView(s, low[Math.floor(from)], low[Math.min(n - 1, Math.ceil(from + 2 * half) - 1)] + s.step);
  } else {
    const reach = n * s.step, middle = low[at];
    setView(s, Math.min(low[0], middle - reach), Math.max(low[n - 1] + s.step, middle + reach));
  }
}

function pan(s, direction) {
  if (s.view.length !== 2) return;
  const by = ((s.view[1] - s.view[0]) / 2) * direction;
  setView(s, s.view[0] + by, s.view[1] + by);
}

function stepChange(s, direction) {
  let i = s.focus + direction;
  while (i >= 0 && i < s.cells.n && !s.cells.sum[i]) i += direction;
  if (i >= 0 && i < s.cells.n) focusOn(s, i);
}

function choose(s, from, to = from) {
  if (from < 0 || to < 0) return;
  const a = Math.min(from, to), b = Math.max(from, to), span = [s.cells.low[a], s.cells.low[b] + s.step];
  const same = s.span.length === 2 && s.span[0] === span[0] && s.span[1] === span[1];
  s.save({ span: same ? [] : span });
}

const DEEDS = {
  zoomIn: (s) => zoom(s, 0.5), zoomOut: (s) => zoom(s, 2), fit: (s) => setView(s, ...s.ends),
  earlier: (s) => pan(s, -1), later: (s) => pan(s, 1), previous: (s) => stepChange(s, -1), next: (s) => stepChange(s, 1),
  choose: (s) => choose(s, s.focus), clear: (s) => s.save({ span: [], owner: "" }),
  list: (s) => { s.list.hidden = !s.list.hidden; s.buttons.list.setAttribute("aria-expanded", String(!s.list.hidden)); fillList(s); },
};

// The focus is on a page, whatever cell it is in after the next cut.
function setFocus(s, i) {
  s.focus = i;
  s.page = s.cells.low[i] ?? 0;
}

function focusOn(s, i) {
  setFocus(s, Math.max(0, Math.min(s.cells.n - 1, i)));
  const row = s.rows.find((each) => !each.band && s.focus < each.first + each.count);
  if (row) {
    const top = s.scroll.scrollTop, room = s.scroll.clientHeight;
    if (row.y < top || row.y + CELL > top + room) s.scroll.scrollTop = row.y - room / 2;
  }
  say(s, s.focus); fillList(s); s.ask();
}

// The row above or below, in the same column where it has one.
function moveRow(s, direction) {
  const rows = s.rows.filter((row) => !row.band), at = rows.findIndex((row) => s.focus < row.first + row.count);
  const row = rows[at], next = rows[at + direction];
  if (next) focusOn(s, next.first + Math.min(next.count - 1, Math.max(0, s.focus - row.first)));
}

function say(s, i = -1) {
  if (i >= 0 && i < s.cells.n) { s.status.textContent = cellText(s, i); return; }
  const changed = s.totals.reduce((sum, count) => sum + count, 0);
  s.status.textContent = `${changed} pages changed; each cell is ${s.step} pages`;
}

// The cells with changes around the one with the focus, as buttons.
function fillList(s) {
  if (s.list.hidden) return;
  const changed = [];
  for (let i = 0; i < s.cells.n; i++) if (s.cells.sum[i]) changed.push(i);
  const at = changed.findIndex((i) => i >= s.focus), middle = at < 0 ? changed.length : at;
  const from = Math.max(0, Math.min(middle - LISTED / 2, changed.length - LISTED)), part = changed.slice(from, from + LISTED);
  const items = part.map((i) => make("li", {}, makeButton(cellText(s, i), { "aria-pressed": String(inSpan(s, i)) }, () => choose(s, i))));
  s.list.replaceChildren(
    make("p", { class: "wb-said", text: `${part.length} of ${changed.length} cells with changed pages, by address` }),
    make("ol", { "aria-label": "Cells with changed pages" }, ...items),
  );
}

function fillLegend(s) {
  s.legend.replaceChildren(...s.kinds.map((name, k) => {
    const sign = make("canvas", { "aria-hidden": "true" });
    square(surface(sign, 14, 14), 1, 1, 12, s.looks[k]);
    const pressed = () => s.save({ owner: s.owner === name ? "" : name });
    const button = makeButton("", { "aria-pressed": String(s.owner === name), "data-owner": name }, pressed);
    button.append(sign, apart(name), make("span", { class: "wb-count", text: s.totals[k].toLocaleString("en") }));
    return make("li", {}, button);
  }));
}

function buildMap(s) {
  s.bar = make("div", { class: "wb-bar", role: "toolbar", "aria-label": "Map of memory" });
  s.buttons = {};
  for (const [name, words, keys] of ACTIONS) {
    const title = `${words} (${keys[0] === " " ? "Space" : keys[0]})`;
    s.buttons[name] = makeButton(words, { "data-action": name, title }, () => DEEDS[name](s));
    s.bar.append(s.buttons[name]);
  }
  s.buttons.list.setAttribute("aria-expanded", "false");
  s.canvas = make("canvas", {
    class: "wb-cells", tabindex: "0", role: "application", "aria-roledescription": "map of memory", "data-lm-suppress-shortcuts": "true",
    "aria-label": "Map of memory. Arrows move between cells, n and p between changes, Enter chooses a cell, plus and minus zoom, t shows a list.",
  });
  s.scroll = make("div", { class: "wb-scroll" }, s.canvas);
  s.legend = make("ul", { class: "wb-legend", "aria-label": "Changed pages by owner" });
  s.status = make("div", { class: "wb-status", role: "status", "aria-live": "polite" });
  s.list = make("div", { class: "wb-list", hidden: true });
  s.root = make("section", { class: "wb wb-rammap", "aria-label": "Map of changed memory" }, s.bar, make("div", { class: "wb-both" }, s.scroll, s.legend), s.status, s.list);
  return s.root;
}

function hitCell(s, event) {
  const row = s.rows.find((each) => !each.band && event.offsetY >= each.y && event.offsetY < each.y + CELL);
  const k = Math.floor((event.offsetX - 1) / CELL);
  return row && k >= 0 && k < row.count ? row.first + k : -1;
}

function listenToInput(s) {
  const on = (name, heard, more = {}) => s.canvas.addEventListener(name, heard, { signal: s.signal, ...more });
  on("pointerdown", (event) => { if (!event.button) { s.canvas.focus({ preventScroll: true }); s.canvas.setPointerCapture(event.pointerId); s.from = hitCell(s, event); } });
  on("pointermove", (event) => say(s, hitCell(s, event)));
  on("pointerup", (event) => { const to = hitCell(s, event); if (s.from >= 0 && to >= 0) { setFocus(s, to); choose(s, s.from, to); } s.from = -1; });
  on("pointercancel", () => { s.from = -1; });
  on("pointerleave", () => say(s, s.focused ? s.focus : -1));
  on("focus", () => { s.focused = true; if (s.focus < 0) setFocus(s, 0); say(s, s.focus); s.ask(); });
  on("blur", () => { s.focused = false; s.ask(); });
  on("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== s.canvas) return;
    event.preventDefault();
    const at = hitCell(s, event);
    if (at >= 0) setFocus(s, at);
    s.wheel(event.deltaY > 0 ? 2 : 0.5);
  }, { passive: false });
  on("keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    const action = ACTIONS.find(([, , keys]) => keys.includes(event.key));
    if (action) DEEDS[action[0]](s);
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") moveRow(s, event.key === "ArrowUp" ? -1 : 1);
    else if (MOVES[event.key]) focusOn(s, s.focus + MOVES[event.key]());
    else return;
    event.preventDefault(); event.stopPropagation();
  });
}

// Read what the kernel says; the focus stays on the page it was on.
function take(s) {
  for (const name of ["step", "bands", "kinds", "totals", "looks", "ends", "view", "span", "owner"]) s[name] = s.model.get(name);
  s.cells = decodeCells(s.model.get("columns"), s.kinds.length);
  const after = s.cells.low.findIndex((low) => low > s.page);
  if (s.focus >= 0) s.focus = after < 0 ? s.cells.n - 1 : Math.max(0, after - 1);
  arrange(s); fillLegend(s); fillList(s); say(s, s.focused ? s.focus : -1); s.ask();
}

function render({ model, el }) {
  const leaving = new AbortController(), s = { model, signal: leaving.signal, focus: -1, page: 0, focused: false, from: -1, width: 600 };
  let frame = 0, waiting = false;
  s.ask = () => { frame ||= requestAnimationFrame(() => { frame = 0; if (s.root.isConnected) paint(s); }); };
  s.save = (values) => { for (const [name, value] of Object.entries(values)) model.set(name, value); model.save_changes(); };
  s.wheel = calmly(60, (factor) => zoom(s, factor));
  el.append(buildMap(s));
  take(s); listenToInput(s);
  const told = () => { if (!waiting) { waiting = true; queueMicrotask(() => { waiting = false; take(s); }); } };
  const names = ["columns", "step", "bands", "kinds", "totals", "looks", "ends", "view"];
  listen(model, s.signal, Object.fromEntries(names.map((name) => [`change:${name}`, told])));
  const chosen = () => { s.span = model.get("span"); s.owner = model.get("owner"); fillChosen(s); };
  listen(model, s.signal, { "change:span": chosen, "change:owner": chosen });
  const sized = new ResizeObserver(() => { s.width = Math.max(120, s.scroll.clientWidth); arrange(s); paint(s); s.root.dataset.readyMs ||= "0"; });
  sized.observe(s.scroll);
  const themed = new MutationObserver(() => s.ask());
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class", "style"] });
  return () => { leaving.abort(); sized.disconnect(); themed.disconnect(); };
}

// Only what is chosen changed: the buttons stay, and with them the focus.
function fillChosen(s) {
  for (const button of s.legend.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.owner === s.owner));
  fillList(s); s.ask();
}

export default { render };
