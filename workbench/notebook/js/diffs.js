// What text and hex diffs have in common: heading, facts, the buttons that turn pages.

function buildDiff(model, signal, name, label) {
  const s = { model, signal };
  s.heading = make("h3");
  s.note = make("p", { class: "wb-said" });
  s.facts = make("table", { class: "wb-facts" });
  s.where = make("span", { role: "status" });
  s.before = makeButton("Previous page", {}, () => turn(s, -1));
  s.after = makeButton("Next page", {}, () => turn(s, 1));
  s.bar = make("div", { class: "wb-bar", role: "group", "aria-label": "Pages of the difference" }, s.before, s.after, s.where);
  s.body = make("table", { class: `wb-${name}` });
  s.scroll = make("div", { class: "wb-scroll", tabindex: "0", role: "group", "aria-label": label, "data-lm-suppress-shortcuts": "true" }, s.body);
  s.root = make("section", { class: "wb wb-diff", "aria-label": label }, s.heading, s.note, s.facts, s.bar, s.scroll);
  s.scroll.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    if (event.key === "n" || event.key === "p") { turn(s, event.key === "n" ? 1 : -1); event.preventDefault(); }
    event.stopPropagation(); // the keys scroll what is shown
  }, { signal });
  return s;
}

function turn(s, direction) {
  const first = s.model.get("first") + direction * s.model.get("size");
  if (first < 0 || first >= s.model.get("total")) return;
  s.model.set("first", first); s.model.save_changes();
}

function factRow([name, before, after]) {
  const cell = (text) => make("td", {}, apart(text));
  return make("tr", {}, make("th", { scope: "row", text: name }), cell(before), cell(after));
}

function fillHead(s) {
  const get = (name) => s.model.get(name), facts = get("facts"), total = get("total"), first = get("first"), size = get("size");
  s.heading.replaceChildren(apart(get("heading"))); s.heading.hidden = !get("heading");
  s.note.replaceChildren(apart(get("note"))); s.note.hidden = !get("note");
  const head = make("thead", {}, make("tr", {}, ...["what", "before", "after"].map((text) => make("th", { scope: "col", text }))));
  s.facts.replaceChildren(head, make("tbody", {}, ...facts.map(factRow)));
  s.facts.hidden = !facts.length;
  s.bar.hidden = total <= size;
  s.scroll.hidden = !total;
  s.before.disabled = first <= 0; s.after.disabled = first + size >= total;
  s.where.textContent = ` ${first + 1} to ${Math.min(total, first + size)} of ${total}`;
}

// A column head per name, then the rows that `rowsOf` makes of the model's.
function showDiff({ model, el }, name, label, columns, rowsOf) {
  const leaving = new AbortController(), s = buildDiff(model, leaving.signal, name, label);
  const head = make("thead", {}, make("tr", {}, ...columns.map((text) => make("th", { scope: "col", text }))));
  let waiting = false;
  const fill = () => {
    fillHead(s);
    s.body.replaceChildren(head, make("tbody", {}, ...rowsOf(model.get("rows"))));
    s.scroll.scrollTop = 0;
  };
  const told = () => { if (!waiting) { waiting = true; queueMicrotask(() => { waiting = false; fill(); }); } };
  listen(model, s.signal, Object.fromEntries(["heading", "note", "facts", "rows", "first", "total"].map((trait) => [`change:${trait}`, told])));
  fill();
  el.append(s.root);
  s.root.dataset.readyMs = "0";
  return () => leaving.abort();
}
