// Measures: a panel per measure, a row per variant, a sign per run. A row is a list of its runs for who does not see it;
// the arrow keys choose among them.

const SIGNS = ["○", "●", "■", "▲", "◆"]; // by variant: apart without colour; the control's is hollow
const PAD = 0.025; // of the scale, left free at each end
const ROOM = 120, STEP = 14; // px beside the scale for runs without a value

// Where a value is, as a part of the scale; halves, since the difference of two finite numbers may not be finite.
function placeOf(panel, value) {
  const half = panel.most / 2 - panel.least / 2;
  return PAD + (half === 0 ? 0.5 : (value / 2 - panel.least / 2) / half) * (1 - 2 * PAD);
}

// All rows of a panel, and its axis, leave the same room beside the scale: one value is in one place in all of them.
const length = (part) => `calc((100% - var(--wb-room)) * ${part})`;
function at(part, node) { node.style.insetInlineStart = length(part); return node; }
const missingIn = (row) => row.runs.filter((run) => run.value === null).length;
const stepOf = (panel) => Math.min(STEP, ROOM / Math.max(1, ...panel.rows.map(missingIn)));

// The quartiles as a band, the median as a bar.
function bandOf(panel, row) {
  if (row.median === null) return [];
  const left = placeOf(panel, row.q1), right = placeOf(panel, row.q3);
  const band = at(left, make("span", { class: "wb-band", "aria-hidden": "true" }));
  band.style.inlineSize = length(right - left);
  return [band, at(placeOf(panel, row.median), make("span", { class: "wb-median", "aria-hidden": "true" }))];
}

function dotOf(s, panel, run, sign, missing) {
  const none = run.value === null, attributes = { class: none ? "wb-dot wb-none" : "wb-dot", role: "option", title: run.words, "data-run": run.position, id: `${s.prefix}-${s.ids++}` };
  const dot = make("span", attributes, make("span", { "aria-hidden": "true", text: none ? "×" : sign }));
  dot.setAttribute("aria-label", run.words);
  dot.addEventListener("click", () => choose(s, run.position));
  if (none) dot.style.insetInlineEnd = `${missing * stepOf(panel)}px`; else at(placeOf(panel, run.value), dot);
  return dot;
}

function choose(s, position) { s.model.set("selected", position); s.model.save_changes(); }

// Along a row by value, those without one last; up and down to the neighbouring variant.
function walk(s, event) {
  const lists = [...s.root.querySelectorAll("[role=listbox]")], list = event.currentTarget, dots = [...list.children].filter((each) => each.dataset.run);
  const here = dots.findIndex((each) => Number(each.dataset.run) === s.model.get("selected"));
  const step = { ArrowRight: here + 1, ArrowLeft: here < 0 ? dots.length - 1 : here - 1, Home: 0, End: dots.length - 1 }[event.key];
  const row = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.altKey || event.metaKey || event.ctrlKey) return;
  if (event.key === "Escape") choose(s, 0);
  else if (step !== undefined) { const dot = dots[Math.max(0, Math.min(dots.length - 1, step))]; if (dot) choose(s, Number(dot.dataset.run)); }
  else if (row) lists[lists.indexOf(list) + row]?.focus();
  else return;
  event.preventDefault(); event.stopPropagation();
}

function rowOf(s, panel, row, index) {
  const sign = SIGNS[index % SIGNS.length], hue = `wb-hue-${index % SIGNS.length}`;
  const runs = [...row.runs].sort((a, b) => (a.value ?? Infinity) - (b.value ?? Infinity) || a.position - b.position);
  let missing = missingIn(row);
  const dots = runs.map((run) => dotOf(s, panel, run, sign, run.value === null ? --missing : 0));
  const list = make("div", {
    class: `wb-scale ${hue}`, role: "listbox", tabindex: "0", "data-lm-suppress-shortcuts": "true", "aria-label": `${isolated(panel.name)}, runs of ${isolated(row.name)}`,
  }, ...bandOf(panel, row), ...dots);
  list.addEventListener("keydown", (event) => walk(s, event), { signal: s.signal });
  const name = make("div", { class: `wb-name ${hue}` }, make("span", { class: "wb-sign", "aria-hidden": "true", text: `${sign} ` }), apart(row.name), row.control && row.name !== "control" ? make("span", { class: "wb-said", text: " (control)" }) : "");
  const words = make("div", { class: "wb-words" }, make("p", { text: row.spread }), make("p", { class: "wb-said", text: row.counts }), make("p", { text: row.words }));
  return [name, list, words];
}

const short = (value) => Number(value.toPrecision(4)).toString();

function panelOf(s, panel) {
  const ends = panel.least === panel.most ? [panel.least] : [panel.least, panel.most];
  const axis = make("div", { class: "wb-axis" }, ...ends.map((each) => at(placeOf(panel, each), make("span", { text: short(each) }))));
  const rows = panel.rows.flatMap((row, index) => rowOf(s, panel, row, index));
  const body = make("div", { class: "wb-rows" }, ...rows, make("div"), axis, make("div")), most = Math.max(...panel.rows.map(missingIn));
  body.style.setProperty("--wb-room", `${most ? most * stepOf(panel) + 10 : 0}px`);
  return make("section", { class: "wb-panel", "aria-label": isolated(panel.name) }, make("h3", {}, apart(panel.name)), body);
}

// The chosen run is the same in all panels.
function mark(s) {
  const chosen = s.model.get("selected"), words = new Set();
  for (const list of s.root.querySelectorAll("[role=listbox]")) {
    list.removeAttribute("aria-activedescendant");
    for (const dot of list.querySelectorAll("[data-run]")) {
      const here = Number(dot.dataset.run) === chosen;
      dot.setAttribute("aria-selected", String(here));
      if (here) { list.setAttribute("aria-activedescendant", dot.id); words.add(dot.title); }
    }
  }
  s.status.textContent = words.size ? [...words].join("  |  ") : "Choose a run: click its sign, or Tab to a row and use the arrow keys.";
}

function render({ model, el }) {
  const began = performance.now(), leaving = new AbortController();
  const s = { model, signal: leaving.signal, ids: 0, prefix: `wb-${Math.random().toString(36).slice(2)}` };
  s.status = make("p", { class: "wb-said wb-chosen", role: "status" });
  s.root = make("section", { class: "wb wb-measures", "aria-label": "What was measured" });
  const draw = () => {
    const untold = model.get("untold");
    s.root.replaceChildren(...model.get("panels").map((each) => panelOf(s, each)), ...(untold ? [make("p", { class: "wb-said", text: untold })] : []), s.status);
    s.status.hidden = !model.get("panels").length;
    mark(s);
  };
  listen(model, s.signal, { "change:panels": draw, "change:untold": draw, "change:selected": () => mark(s) });
  draw();
  el.append(s.root);
  s.root.dataset.readyMs = (performance.now() - began).toFixed(1);
  return () => leaving.abort();
}

export default { render };
