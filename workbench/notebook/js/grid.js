// Grid: a table of any length. Only the rows in sight exist as elements; they are asked for in windows as they come in
// sight. The layer of rows sticks to the top while an empty box below it gives the scroll bar its length.

const ROW = 22, SHOWN = 14, AHEAD = 60, TALLEST = 8_000_000, KEPT = 4000;

function makeGrid(model, signal) {
  const s = { model, signal, cells: new Map(), drawn: new Map(), asked: new Set(), first: 0, cursor: -1, wanted: false };
  s.root = make("section", { class: "wb wb-grid" });
  s.filter = make("input", {
    type: "search", autocomplete: "off", spellcheck: "false", "data-lm-suppress-shortcuts": "true", placeholder: "Filter: text, column:text",
    value: model.get("sought"),
  });
  s.count = make("span", { class: "wb-said", role: "status" });
  s.bar = make("div", { class: "wb-grid-bar" }, s.label = make("strong", { class: "wb-grid-label" }), s.filter, s.count);
  s.head = make("div", { role: "rowgroup" });
  s.body = make("div", { role: "rowgroup", class: "wb-grid-body" });
  s.layer = make("div", { class: "wb-grid-layer" }, s.head, s.body);
  s.spacer = make("div", { class: "wb-grid-spacer" });
  s.box = make("div", { class: "wb-grid-box", role: "grid", tabindex: "0", "data-lm-suppress-shortcuts": "true" }, s.layer, s.spacer);
  s.root.append(s.bar, s.box);
  s.prefix = `wb-${Math.random().toString(36).slice(2)}`;
  return s;
}

const gridTotal = (s) => s.model.get("total");
const gridShown = (s) => Math.min(SHOWN, Math.max(1, gridTotal(s)));

// Its name, also for who does not see it.
function nameGrid(s) {
  const label = s.model.get("label");
  s.label.replaceChildren(...(label ? [apart(label)] : []));
  for (const named of [s.root, s.box]) named.setAttribute("aria-label", label || "Table");
  s.filter.setAttribute("aria-label", `Filter ${label}`);
}

// The head: names, each a button that sorts by its column.
function drawHead(s) {
  const columns = s.model.get("columns"), [by, way] = s.model.get("sort");
  s.layer.style.setProperty("--wb-columns", columns.map((each, at) => (at === columns.length - 1 ? `minmax(calc(${each.width}ch + 14px), 1fr)` : `calc(${each.width}ch + 14px)`)).join(" "));
  const row = make("div", { role: "row", class: "wb-grid-head", "aria-rowindex": "1" });
  columns.forEach((column, at) => {
    const sorted = at !== by ? "none" : way > 0 ? "ascending" : "descending";
    const button = makeButton("", { "data-column": at, title: "Sort" }, () => sortBy(s, at));
    button.append(apart(column.name));
    row.append(make("div", { role: "columnheader", "aria-sort": sorted, "aria-colindex": at + 1 }, button));
  });
  s.head.replaceChildren(...(columns.length ? [row] : []));
  s.box.setAttribute("aria-colcount", columns.length);
}

// By a column: rising, falling, and as it came.
function sortBy(s, column) {
  const [by, way] = s.model.get("sort");
  s.model.set("sort", by !== column ? [column, 1] : way > 0 ? [column, -1] : []);
  s.model.save_changes();
}

// How long the scroll bar is, and how much is said.
function measure(s) {
  const total = gridTotal(s), rows = s.model.get("rows"), shown = gridShown(s);
  s.box.setAttribute("aria-rowcount", total + 1);
  s.body.style.height = `${shown * ROW}px`;
  s.tall = Math.min((total - shown) * ROW, TALLEST);
  s.spacer.style.height = `${s.tall}px`;
  const count = total === rows ? `${rows.toLocaleString("en")} rows` : `${total.toLocaleString("en")} of ${rows.toLocaleString("en")} rows`;
  s.count.textContent = [count, s.model.get("said")].filter(Boolean).join("  |  ");
}

function scrollToFirst(s, first) {
  const most = Math.max(0, gridTotal(s) - gridShown(s));
  s.first = Math.max(0, Math.min(most, first));
  s.box.scrollTop = most ? (s.first / most) * s.tall : 0;
}

function scrolled(s) {
  const most = Math.max(0, gridTotal(s) - gridShown(s));
  const first = s.tall ? Math.round((s.box.scrollTop / s.tall) * most) : 0;
  if (Math.abs(first - s.first) > 0) { s.first = Math.max(0, Math.min(most, first)); drawRows(s); }
}

// Rows that are there stay the same elements: a double click is two clicks on one of them.
function drawRows(s) {
  const end = Math.min(gridTotal(s), s.first + gridShown(s)), drawn = new Map();
  for (let at = s.first; at < end; at++) {
    const told = s.cells.get(at), before = s.drawn.get(at);
    drawn.set(at, before?.told === told && before ? before : { told, row: drawRow(s, at, told) });
    drawn.get(at).row.setAttribute("aria-selected", String(at === s.cursor));
  }
  const rows = [...drawn.values()].map((each) => each.row);
  if (rows.length !== s.body.children.length || rows.some((row, at) => row !== s.body.children[at])) s.body.replaceChildren(...rows);
  s.drawn = drawn;
  const active = drawn.has(s.cursor) ? `${s.prefix}-${s.cursor}` : "";
  if (active) s.box.setAttribute("aria-activedescendant", active); else s.box.removeAttribute("aria-activedescendant");
  wantRows(s, s.first, end);
}

function drawRow(s, at, told) {
  const columns = s.model.get("columns");
  const row = make("div", { role: "row", class: "wb-grid-row", id: `${s.prefix}-${at}`, "aria-rowindex": at + 2, "data-at": at });
  columns.forEach((column, index) => {
    const text = told ? told.cells[index] : "", absent = told?.absent.includes(index);
    const cell = make("div", { role: "gridcell", class: `wb-${column.kind}${absent ? " wb-absent" : ""}`, "aria-colindex": index + 1, title: text || null }, apart(text));
    if (index === 0 && told?.depth) { cell.style.paddingInlineStart = `${6 + told.depth * 14}px`; row.setAttribute("aria-description", `depth ${told.depth}`); }
    row.append(cell);
  });
  return row;
}

// Ask for what is in sight and not here, with some more on both sides.
function wantRows(s, from, end) {
  let missing = -1;
  for (let at = from; at < end && missing < 0; at++) if (!s.cells.has(at)) missing = at;
  if (missing < 0) return;
  const at = Math.max(0, from - AHEAD), to = Math.min(gridTotal(s), end + AHEAD), key = `${at}-${to}`;
  if (s.asked.has(key)) return;
  s.asked.add(key);
  s.model.send({ ask: "rows", at, to, version: s.model.get("version") });
}

function takeRows(s, message) {
  if (message.version !== s.model.get("version")) return;
  if (s.cells.size > KEPT) { s.cells.clear(); s.asked.clear(); }
  message.rows.forEach((row, index) => s.cells.set(message.at + index, row));
  drawRows(s);
  if (s.wanted) choose(s, s.cursor);
}

// Choose a row in sight; the kernel learns of it as soon as it is known which row of the frame it is.
function choose(s, at) {
  const total = gridTotal(s);
  if (!total) return;
  s.cursor = Math.max(0, Math.min(total - 1, at));
  if (s.cursor < s.first) scrollToFirst(s, s.cursor);
  else if (s.cursor >= s.first + gridShown(s)) scrollToFirst(s, s.cursor - gridShown(s) + 1);
  const told = s.cells.get(s.cursor);
  s.wanted = !told;
  drawRows(s);
  if (told && s.model.get("selected") !== told.row) { s.model.set("selected", told.row); s.model.save_changes(); }
}

// What the kernel chose: in sight it is marked, else the kernel is asked where it is.
function follow(s) {
  const selected = s.model.get("selected");
  if (selected < 0) { s.cursor = -1; return drawRows(s); }
  if (s.cells.get(s.cursor)?.row === selected) return drawRows(s);
  s.model.send({ ask: "where", at: selected, version: s.model.get("version") });
}

function found(s, message) {
  if (message.version !== s.model.get("version") || message.row !== s.model.get("selected")) return;
  s.cursor = message.where;
  if (s.cursor >= 0 && (s.cursor < s.first || s.cursor >= s.first + gridShown(s))) scrollToFirst(s, s.cursor - 3);
  drawRows(s);
}

function openRow(s) {
  const told = s.cells.get(s.cursor);
  if (told) s.model.send({ ask: "open", at: told.row, version: s.model.get("version") });
}

const GRID_KEYS = {
  ArrowDown: (s) => s.cursor + 1, ArrowUp: (s) => (s.cursor < 0 ? gridTotal(s) - 1 : s.cursor - 1),
  PageDown: (s) => s.cursor + gridShown(s), PageUp: (s) => s.cursor - gridShown(s), Home: () => 0, End: (s) => gridTotal(s) - 1,
};

function listenToGrid(s) {
  const on = (element, name, deed) => element.addEventListener(name, deed, { signal: s.signal });
  on(s.box, "scroll", () => scrolled(s));
  on(s.box, "keydown", (event) => {
    if (event.target !== s.box || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in GRID_KEYS) choose(s, GRID_KEYS[event.key](s));
    else if (event.key === "Enter") openRow(s);
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") s.box.scrollLeft += event.key === "ArrowLeft" ? -60 : 60;
    else return;
    event.preventDefault(); event.stopPropagation();
  });
  const rowOf = (event) => event.target.closest?.(".wb-grid-row");
  on(s.body, "click", (event) => { const row = rowOf(event); if (row) choose(s, Number(row.dataset.at)); });
  on(s.body, "dblclick", (event) => { if (rowOf(event)) openRow(s); });
  on(s.box, "copy", (event) => {
    const told = s.cells.get(s.cursor);
    if (!told || String(getSelection())) return;
    event.clipboardData.setData("text/plain", told.cells.join("\t"));
    event.preventDefault(); event.stopPropagation();
  });
  const seek = calmly(200, () => { s.model.set("sought", s.filter.value); s.model.save_changes(); });
  on(s.filter, "input", seek);
  on(s.filter, "keydown", (event) => { event.stopPropagation(); if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); s.box.focus(); } });
}

// Another frame, order or filter: nothing of the rows is known any more. What is in sight stays in sight where only the
// rows are others (a directory was opened, another moment chosen).
function takeTable(s) {
  const shape = JSON.stringify([s.model.get("columns").map((each) => each.name), s.model.get("sort"), s.model.get("sought")]);
  const first = shape === s.shape ? s.first : 0;
  s.shape = shape;
  s.cells.clear(); s.asked.clear(); s.drawn.clear(); s.cursor = -1; s.wanted = false;
  drawHead(s); measure(s); scrollToFirst(s, first); drawRows(s);
  if (s.model.get("selected") >= 0) follow(s);
}

function renderGrid({ model, el }) {
  const began = performance.now(), leaving = new AbortController(), s = makeGrid(model, leaving.signal);
  el.append(s.root);
  listenToGrid(s);
  // Several traits of one change arrive together: read them once.
  let waiting = false;
  const anew = () => { if (!waiting) { waiting = true; queueMicrotask(() => { waiting = false; takeTable(s); }); } };
  listen(model, leaving.signal, {
    "change:version": anew, "change:columns": anew, "change:selected": () => follow(s), "change:said": () => measure(s), "change:label": () => nameGrid(s),
    "change:sought": () => { if (document.activeElement !== s.filter) s.filter.value = model.get("sought"); },
    "msg:custom": (message) => { if (message.rows) takeRows(s, message); else if ("where" in message) found(s, message); },
  });
  nameGrid(s); takeTable(s);
  // As tall as its rows and, where there is one, the scroll bar below them.
  const sized = new ResizeObserver(() => { s.box.style.maxHeight = `${s.layer.offsetHeight + s.box.offsetHeight - s.box.clientHeight}px`; });
  sized.observe(s.box); sized.observe(s.layer);
  s.root.dataset.readyMs = (performance.now() - began).toFixed(1);
  return () => { leaving.abort(); sized.disconnect(); };
}

export default { render: renderGrid };
