// Files: what is known of one file of a guest, a page of it as text or in hexadecimal, and its download, which is asked
// for part by part. The content is set as text; a download is bytes without a type that a browser would show.

function makePreview(model, signal) {
  const s = { model, signal, parts: null };
  s.title = make("h3", { class: "wb-file-title" });
  s.about = make("dl", { class: "wb-file-about" });
  s.text = makeButton("Text", {}, () => look(s, "text"));
  s.hex = makeButton("Hex", {}, () => look(s, "hex"));
  s.before = makeButton("Previous page", {}, () => turn(s, -1));
  s.after = makeButton("Next page", {}, () => turn(s, 1));
  s.where = make("span", { class: "wb-said" });
  s.load = makeButton("Download", {}, () => load(s));
  s.said = make("span", { class: "wb-said", role: "status" });
  s.bar = make("div", { class: "wb-file-bar", role: "toolbar", "aria-label": "File" }, s.text, s.hex, s.before, s.where, s.after, s.load, s.said);
  s.body = make("pre", { class: "wb-file-body", tabindex: "0", role: "region", "aria-label": "Content", "data-lm-suppress-shortcuts": "true" });
  s.root = make("section", { class: "wb wb-file", "aria-label": "Chosen entry" }, s.title, s.about, s.bar, s.body);
  return s;
}

function look(s, mode) { s.model.set("mode", mode); s.model.save_changes(); }

function turn(s, by) {
  const page = s.model.get("page") + by;
  if (page < 0 || page >= s.model.get("pages")) return;
  s.model.set("page", page); s.model.save_changes();
}

function tellFile(s) {
  const get = (name) => s.model.get(name), mode = get("mode"), pages = get("pages"), page = get("page");
  s.root.hidden = !get("title");
  s.title.replaceChildren(apart(get("title")));
  s.about.replaceChildren(...get("about").map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", {}, apart(value)))));
  s.bar.hidden = s.body.hidden = !pages;
  for (const [button, name] of [[s.text, "text"], [s.hex, "hex"]]) button.setAttribute("aria-pressed", String(mode === name));
  s.before.disabled = page <= 0; s.after.disabled = page >= pages - 1;
  s.where.textContent = `page ${page + 1} of ${pages}`;
  s.load.disabled = !get("loads") || s.parts !== null;
  s.said.textContent = get("said");
}

function tellBody(s) { s.body.textContent = s.model.get("body"); s.body.scrollTop = 0; }

function load(s) {
  s.parts = []; s.got = 0; s.of = s.model.get("turn"); s.name = s.model.get("title");
  tellFile(s);
  askPart(s);
}

function askPart(s) {
  s.said.textContent = `Downloading: ${s.got.toLocaleString("en")} of ${s.model.get("size").toLocaleString("en")} bytes`;
  s.model.send({ ask: "chunk", at: s.got, turn: s.of });
}

function takePart(s, message, buffers) {
  if (!s.parts || message.turn !== s.of || (message.chunk >= 0 && message.chunk !== s.got)) return;
  if (message.chunk < 0) { s.parts = null; tellFile(s); s.said.textContent = "The file could not be read."; return; }
  const part = buffers[0];
  s.parts.push(part); s.got += part.byteLength;
  if (!message.last) return askPart(s);
  save(new Blob(s.parts, { type: "application/octet-stream" }), s.name);
  const got = s.got;
  s.parts = null; tellFile(s);
  s.said.textContent = `Downloaded ${got.toLocaleString("en")} bytes.`;
}

function save(blob, path) {
  const name = path.split("/").pop().replace(/[^\p{L}\p{N}._ -]/gu, "_").replace(/^\.+/, "_") || "file";
  const url = URL.createObjectURL(blob);
  const link = make("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function renderFile({ model, el }) {
  const leaving = new AbortController(), s = makePreview(model, leaving.signal);
  el.append(s.root);
  let waiting = false;
  const anew = () => { if (!waiting) { waiting = true; queueMicrotask(() => { waiting = false; tellFile(s); }); } };
  const heard = { "change:body": () => tellBody(s), "change:turn": () => { s.parts = null; anew(); } };
  for (const name of ["title", "about", "mode", "page", "pages", "loads", "said"]) heard[`change:${name}`] = anew;
  listen(model, leaving.signal, { ...heard, "msg:custom": (message, buffers) => { if ("chunk" in message) takePart(s, message, buffers); } });
  tellFile(s); tellBody(s);
  return () => leaving.abort();
}

export default { render: renderFile };
