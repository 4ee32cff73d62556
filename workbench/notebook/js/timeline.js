// Timeline: the traits of the model and what is on the page, kept in step. The file that is joined last.

// What each action does; `s` is the state of one view.
const DEEDS = {
  previous: (s) => s.step(-1), next: (s) => s.step(1), up: (s) => s.changeLane(-1), down: (s) => s.changeLane(1),
  first: (s) => s.choose(next(s.data, -1, 1, s.lane())), last: (s) => s.choose(next(s.data, s.data.n, -1, s.lane())),
  latest: (s) => s.choose(s.data.n - 1, true), latestMark: (s) => s.chooseMark(s.marks.length - 1),
  previousMark: (s) => s.stepMark(-1), nextMark: (s) => s.stepMark(1),
  zoomIn: (s) => s.view.zoom(0.5, s.focus()), zoomOut: (s) => s.view.zoom(2, s.focus()), fit: (s) => s.view.fit(), undo: (s) => s.view.undo(),
  panLeft: (s) => s.view.pan(-0.5), panRight: (s) => s.view.pan(0.5),
  zoomBrush: (s) => { if (s.brush.length === 2) s.view.go(...s.brush); },
  begin: (s) => s.edge(0), end: (s) => s.edge(1),
  clear: (s) => { s.setBrush([]); s.choose(-1, true); },
  note: (s) => { if (s.cursor < 0) return s.tell("Choose a capture first."); s.form.hidden = false; s.form.elements.name.focus(); },
  copy: async (s) => {
    if (s.cursor < 0) return s.tell("Choose a capture first.");
    const link = s.model.get("link");
    if (!link.includes(hexOf(s.data, s.cursor))) return s.tell("The kernel has not answered yet; try again.");
    s.tell((await copyText(link)) ? `Copied ${link}` : link);
  },
  live: (s) => { s.model.set("live", !s.model.get("live")); s.model.save_changes(); s.press(); },
  list: (s) => { s.lists.hidden = !s.lists.hidden; fillLists(s); s.press(); },
  help: (s) => { s.help.hidden = !s.help.hidden; s.press(); },
};

function makeState(model, signal) {
  const s = { model, signal, data: decode([]), lanes: [], marks: [], forks: [], here: [], runs: [], brush: [], cursor: -1, preview: -1, drag: null, drawn: 0, sent: [] };
  let frame = 0, settling = 0;
  s.ask = () => { frame ||= requestAnimationFrame(() => { frame = 0; if (s.root.isConnected) paint(s); }); };
  s.view = new View((settled) => {
    s.ask();
    clearTimeout(settling);
    if (settled) settling = setTimeout(() => { model.set("view", [...s.view.span]); model.save_changes(); fillLists(s); }, 120);
  });
  s.act = (name) => DEEDS[name](s);
  s.tell = (words) => { s.status.textContent = words; };
  s.lane = () => (s.cursor >= 0 ? s.data.lane[s.cursor] : -1);
  s.focus = () => {
    const time = s.cursor >= 0 ? s.data.time[s.cursor] : NaN;
    return time >= s.view.span[0] && time <= s.view.span[1] ? time : undefined;
  };
  s.press = () => {
    const pressed = { live: model.get("live"), list: !s.lists.hidden, help: !s.help.hidden };
    for (const [name, on] of Object.entries(pressed)) s.buttons[name].setAttribute("aria-pressed", String(Boolean(on)));
  };
  // Choose a capture by position; what is not there changes nothing unless nothing is what was asked for.
  s.choose = (at, allowNone = false) => {
    if (at < 0 && !allowNone) return;
    s.cursor = at;
    if (at >= 0) s.view.reveal(s.data.time[at]);
    const id = at >= 0 ? hexOf(s.data, at) : "";
    if (model.get("selected").slice(0, 16) !== id) {
      if (id) s.sent.push(id);
      if (s.sent.length > 200) s.sent.shift();
      model.set("selected", id);
      model.save_changes();
    }
    say(s); fillLists(s); s.ask();
  };
  s.step = (direction) => s.choose(s.cursor < 0 ? (direction > 0 ? 0 : s.data.n - 1) : next(s.data, s.cursor, direction, s.lane()));
  s.changeLane = (direction) => {
    const time = s.cursor >= 0 ? s.data.time[s.cursor] : s.view.span[1];
    const lane = Math.min(s.lanes.length - 1, Math.max(0, s.lane() + direction));
    s.choose(nearest(s.data, time, lane, s.data.n));
  };
  s.chooseMark = (at) => { if (s.marks[at]) { s.mark = at; s.choose(indexOf(s.data, s.marks[at].capture)); s.tell([s.marks[at].kind, s.marks[at].name, s.marks[at].note].map(isolated).join("  ")); } };
  s.stepMark = (direction) => s.chooseMark(Math.min(s.marks.length - 1, Math.max(0, (s.mark ?? s.marks.length) + direction)));
  s.setBrush = (span) => { s.brush = span; model.set("brush", span); model.save_changes(); say(s); s.ask(); };
  s.edge = (which) => {
    if (s.cursor < 0) return s.tell("Choose a capture first.");
    const time = s.data.time[s.cursor], span = s.brush.length === 2 ? [...s.brush] : [time, time];
    span[which] = time;
    s.setBrush(span[0] > span[1] ? [time, time] : span);
  };
  return s;
}

// Read everything that the kernel says of the history; the chosen capture stays chosen wherever it now stands.
function takeHistory(s, first = false) {
  const { model } = s;
  s.data = decode([model.get("columns"), model.get("fresh")]);
  for (const name of ["lanes", "marks", "forks", "here", "runs"]) s[name] = model.get(name) ?? [];
  s.cursor = indexOf(s.data, model.get("selected"));
  s.preview = -1;
  s.view.bound(s.data, first);
  say(s); fillLists(s); s.ask();
}

function listenToModel(s) {
  const { model, signal } = s, heard = [];
  const on = (name, deed) => { model.on(name, deed); heard.push([name, deed]); };
  // Several traits of one refresh arrive together: read them once.
  let waiting = false;
  const history = () => { if (!waiting) { waiting = true; queueMicrotask(() => { waiting = false; takeHistory(s); }); } };
  for (const name of ["columns", "fresh", "lanes", "marks", "forks", "here", "runs"]) on(`change:${name}`, history);
  on("change:selected", () => {
    // The kernel answers a choice with the whole id; the answer to an older choice must not undo a newer one.
    const whole = model.get("selected"), id = whole.slice(0, 16), ours = s.sent.indexOf(id);
    if (ours >= 0) {
      if (whole.length > 16) s.sent.splice(0, ours + 1);
      return;
    }
    const at = indexOf(s.data, id);
    if (at === s.cursor) return;
    s.cursor = at;
    if (at >= 0) s.view.reveal(s.data.time[at]);
    say(s); fillLists(s); s.ask();
  });
  on("change:brush", () => { if (!s.drag) { s.brush = model.get("brush") ?? []; say(s); s.ask(); } });
  on("change:view", () => {
    const span = model.get("view") ?? [];
    if (s.drag || span.length !== 2 || (span[0] === s.view.span[0] && span[1] === s.view.span[1])) return;
    s.view.go(...span);
  });
  on("change:about", () => tellAbout(s));
  on("change:said", () => say(s));
  on("change:live", () => s.press());
  signal.addEventListener("abort", () => { for (const [name, deed] of heard) model.off(name, deed); });
}

function render({ model, el }) {
  const began = performance.now(), leaving = new AbortController();
  const s = makeState(model, leaving.signal);
  el.append(buildPage(s));
  takeHistory(s, true);
  s.brush = model.get("brush") ?? [];
  const span = model.get("view") ?? [];
  if (span.length === 2) s.view.span = [...span];
  tellAbout(s); s.press(); say(s);
  listenToPointer(s); listenToKeys(s); listenToModel(s);
  const sized = new ResizeObserver(() => {
    s.view.width = Math.max(360, s.root.clientWidth - 2);
    paint(s);
    if (!s.root.dataset.readyMs) s.root.dataset.readyMs = (performance.now() - began).toFixed(1);
  });
  sized.observe(s.root);
  // JupyterLab says by attributes of the body which theme it wears.
  const themed = new MutationObserver(() => s.ask());
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class", "style"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => s.ask(), { signal: leaving.signal });
  return () => { leaving.abort(); sized.disconnect(); themed.disconnect(); };
}

export default { render };
