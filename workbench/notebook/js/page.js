// Page: everything around the canvas that is made of elements: buttons, status, lists for those who do not see the
// canvas, the form of a note, help. Texts are set as text.

const LISTED = 100;

// What can be done: name, icon, words, keys. The same list makes the buttons, the keys and the help.
const ACTIONS = [
  ["previous", "previous", "Previous capture of the lane", ["ArrowLeft"]],
  ["next", "next", "Next capture of the lane", ["ArrowRight"]],
  ["latest", "latest", "Latest capture", ["l"]],
  ["latestMark", "mark", "Latest mark", ["m"]],
  ["zoomIn", "zoomIn", "Zoom in", ["+", "="]],
  ["zoomOut", "zoomOut", "Zoom out", ["-", "_"]],
  ["fit", "fit", "Show everything", ["f"]],
  ["undo", "undo", "Undo zoom or pan", ["u"]],
  ["begin", "begin", "The span begins at the chosen capture", ["["]],
  ["end", "end", "The span ends at the chosen capture", ["]"]],
  ["clear", "clear", "Choose nothing", ["Escape"]],
  ["note", "note", "Save a note at the chosen capture", ["n"]],
  ["copy", "copy", "Copy a link to the chosen capture", ["c"]],
  ["live", "live", "Follow new captures", ["v"]],
  ["list", "list", "Captures and marks as lists", ["t"]],
  ["help", "help", "Keys and signs", ["?"]],
];
// Keys without a button: their button would say the same as another.
const MORE_KEYS = [
  ["up", "Lane above", ["ArrowUp"]], ["down", "Lane below", ["ArrowDown"]], ["first", "First capture of the lane", ["Home"]],
  ["last", "Last capture of the lane", ["End"]], ["panLeft", "Earlier", ["PageUp", "Shift+ArrowLeft"]],
  ["panRight", "Later", ["PageDown", "Shift+ArrowRight"]], ["zoomBrush", "Zoom to the span", ["z"]],
  ["previousMark", "Previous mark", [","]], ["nextMark", "Next mark", ["."]],
];

function buildPage(s) {
  s.root = element("section", "wb-timeline", "", { "aria-label": "Timeline of captures" });
  s.bar = element("div", "wb-bar", "", { role: "toolbar", "aria-label": "Timeline" });
  s.buttons = {};
  for (const [name, image, words, keys] of ACTIONS) {
    const title = `${words} (${keys[0].replace("Arrow", "")})`;
    const button = element("button", "", "", { type: "button", title, "aria-label": title, "data-action": name });
    button.append(icon(image));
    button.addEventListener("click", () => s.act(name), { signal: s.signal });
    s.buttons[name] = button;
    s.bar.append(button);
  }
  for (const name of ["live", "list", "help"]) s.buttons[name].setAttribute("aria-pressed", "false");
  s.overview = element("canvas", "wb-overview", "", { "aria-hidden": "true" });
  s.scroll = element("div", "wb-scroll");
  // JupyterLab takes keys (a, b, m ...) from cells unless the focused element itself says that it wants them.
  s.canvas = element("canvas", "wb-lanes", "", {
    tabindex: "0", role: "application", "aria-roledescription": "timeline", "data-lm-suppress-shortcuts": "true",
    "aria-label": "Timeline of captures. Left and right choose a capture, up and down a lane, question mark tells all keys.",
  });
  s.scroll.append(s.canvas);
  s.status = element("div", "wb-status", "", { role: "status", "aria-live": "polite" });
  s.about = element("dl", "wb-about");
  s.lists = buildLists();
  s.help = buildHelp();
  s.form = buildForm(s);
  s.root.append(s.bar, s.overview, s.scroll, s.status, s.about, s.form, s.lists, s.help);
  return s.root;
}

function buildLists() {
  const lists = element("div", "wb-lists");
  lists.hidden = true;
  for (const [name, title] of [["captures", "Captures in view"], ["marks", "Marks"], ["runs", "Clones"]]) {
    const part = element("div", `wb-list-${name}`);
    part.append(element("h3", "", title), element("p"), element("ol", "", "", { "aria-label": title }));
    lists.append(part);
  }
  return lists;
}

function buildHelp() {
  const help = element("div", "wb-help");
  help.hidden = true;
  const table = element("table"), body = element("tbody");
  for (const [, words, keys] of [...ACTIONS.map(([name, , words, keys]) => [name, words, keys]), ...MORE_KEYS]) {
    const row = element("tr"), cell = element("td");
    keys.forEach((key) => cell.append(element("kbd", "", key.replace("Arrow", "")), " "));
    row.append(cell, element("td", "", words));
    body.append(row);
  }
  table.append(body);
  help.append(
    table,
    element("p", "", "Drag the lanes to pan, the wheel zooms at the cursor (with Shift it pans), drag the axis to look "
      + "through captures, Shift and drag for a span, drag the overview to choose what is visible. "
      + "A drag acts when it is let go; Escape takes it back. A bar under a lane is a clone: it begins at the moment it "
      + "was made of, and is as long as it has been there."),
    buildLegend("Captures", MODE_LOOK), buildLegend("Marks", { ...MARK_LOOK, other: OTHER_MARK }),
  );
  return help;
}

function buildLegend(title, looks) {
  const legend = element("p", "wb-legend", `${title}: `);
  for (const [name, [colour, form]] of Object.entries(looks)) {
    const sign = element("canvas", "", "", { "aria-hidden": "true" }), g = prepare(sign, 16, 16);
    if (form) shape(g, form, 8, 8, 5, colour, "#808080"); else { g.fillStyle = colour; g.fillRect(7, 2, 2, 12); }
    legend.append(sign, document.createTextNode(`${name}  `));
  }
  return legend;
}

function buildForm(s) {
  const form = element("form", "wb-note", "", { "aria-label": "Note" });
  form.hidden = true;
  for (const [name, words, most] of [["name", "Name of the mark", 200], ["note", "Note", 2000]]) {
    const label = element("label", "", `${words} `);
    label.append(element("input", "", "", { name, maxlength: String(most), autocomplete: "off", "data-lm-suppress-shortcuts": "true" }));
    form.append(label);
  }
  form.append(element("button", "", "Save", { type: "submit" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    s.model.send({ ask: "note", name: form.elements.name.value, note: form.elements.note.value });
    form.reset(); form.hidden = true; s.canvas.focus();
  }, { signal: s.signal });
  form.addEventListener("keydown", (event) => {
    event.stopPropagation(); // the keys belong to what is written
    if (event.key === "Escape") { form.hidden = true; s.canvas.focus(); }
  }, { signal: s.signal });
  return form;
}

function captureText(s, i) {
  const { data } = s;
  return `${timeText(data.time[i])}  ${isolated(s.lanes[data.lane[i]]?.label ?? "?")}  ${MODES[data.mode[i]] ?? "?"}  ${hexOf(data, i).slice(0, 12)}`;
}

function say(s) {
  const { data } = s, said = s.model.get("said");
  const at = s.preview >= 0 ? s.preview : s.cursor;
  const what = at >= 0 && at < data.n ? captureText(s, at) : `${data.n} captures, ${s.marks.length} marks`;
  const span = s.brush.length === 2 ? `  |  span ${timeText(s.brush[0])} to ${timeText(s.brush[1])} (${spanText(s.brush[1] - s.brush[0])})` : "";
  s.status.textContent = what + span + (said ? `  |  ${said}` : "");
}

function tellAbout(s) {
  s.about.replaceChildren();
  for (const [name, value] of s.model.get("about") ?? []) {
    const pair = element("div");
    const told = element("dd");
    told.append(element("bdi", "", value));
    pair.append(element("dt", "", name), told);
    s.about.append(pair);
  }
}

// The lists: what is in view, at most so many around the chosen one; each entry is a button that chooses it.
function fillLists(s) {
  if (s.lists.hidden) return;
  const { data, view } = s;
  const begin = lowerBound(data.time, view.span[0]), end = lowerBound(data.time, view.span[1]);
  const middle = s.cursor >= begin && s.cursor < end ? s.cursor : end - 1;
  const from = Math.max(begin, Math.min(middle - LISTED / 2, end - LISTED)), to = Math.min(end, from + LISTED);
  const captures = [];
  for (let i = from; i < to; i++) captures.push([captureText(s, i), () => s.choose(i), i === s.cursor]);
  fillList(s.lists.children[0], captures, `${Math.max(0, to - from)} of ${Math.max(0, end - begin)}`);
  const marks = s.marks.slice(-LISTED).map((mark) => {
    const words = `${timeText(mark.time)}  ${isolated(mark.kind)}  ${isolated(mark.name)}${mark.note ? `: ${isolated(mark.note)}` : ""}`;
    return [words, () => s.choose(indexOf(data, mark.capture)), false];
  });
  fillList(s.lists.children[1], marks, `${marks.length} of ${s.marks.length}`);
  const runs = s.runs.map((run) => [runText(run), () => s.choose(indexOf(data, run.capture)), false]);
  fillList(s.lists.children[2], runs, `${runs.length} that are there`);
}

function runText(run) {
  return `${isolated(run.name)}  from ${timeText(run.time)}  for ${spanText(Math.max(0, Date.now() - run.started))}`;
}

// Put a text where it can be pasted from; pages that are not served securely have no clipboard but the old way.
async function copyText(text) {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* the old way */ }
  const field = make("textarea", { "aria-hidden": "true", style: "position:fixed;opacity:0" }), before = document.activeElement;
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus({ preventScroll: true });
  return done;
}

function fillList(part, rows, count) {
  const [, told, list] = part.children;
  told.textContent = count;
  list.replaceChildren(...rows.map(([words, chosen, current]) => {
    const item = element("li"), button = element("button", "", "", { type: "button" });
    button.append(element("bdi", "", words));
    if (current) button.setAttribute("aria-current", "true");
    button.addEventListener("click", chosen);
    item.append(button);
    return item;
  }));
}
