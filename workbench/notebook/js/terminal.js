// Terminal: rows of text drawn from runs that the kernel made, and a field that keys are typed into. What a run says is
// set as text, and its colours are taken from lists or are six hexadecimal digits.

const HELD = ["b", "i", "u", "s", "r", "w"];
// Keys that type nothing by themselves; all others come through the field, with dead keys and input methods.
const SENT_KEYS = new Set(["Enter", "Backspace", "Tab", "Escape", "Insert", "Delete", "PageUp", "PageDown", "Home", "End",
  "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", ...Array.from({ length: 12 }, (_, at) => `F${at + 1}`)]);
const COLOUR_NAMES = ["black", "red", "green", "brown", "blue", "magenta", "cyan", "white"];

function colourOf(name) {
  if (/^[0-9a-f]{6}$/.test(name)) return `#${name}`;
  const plain = name.replace("bright", "").replace("bfight", "");
  if (!COLOUR_NAMES.includes(plain)) return "";
  return `var(--wb-${plain === name ? "" : "bright-"}${plain})`;
}

function runElement([text, fore, back, letters]) {
  const run = make("span", { text, class: HELD.filter((letter) => letters.includes(letter)).map((letter) => `wb-${letter}`).join(" ") });
  let colours = [colourOf(fore), colourOf(back)];
  if (letters.includes("r")) colours = [colours[1] || "var(--wb-screen)", colours[0] || "var(--wb-glow)"];
  if (colours[0]) run.style.color = colours[0];
  if (colours[1]) run.style.backgroundColor = colours[1];
  return run;
}

function buildTerminal(s) {
  s.rows = Array.from({ length: s.model.get("lines") }, () => make("div", { class: "wb-row" }));
  s.cursor = make("div", { class: "wb-cursor", "aria-hidden": "true" });
  s.field = make("textarea", {
    class: "wb-keys", rows: "1", autocomplete: "off", autocapitalize: "off", spellcheck: "false", autocorrect: "off",
    "data-lm-suppress-shortcuts": "true", "aria-label": `Keys for ${s.model.get("label") || "the console"}. Control and closing bracket leaves.`,
  });
  s.screen = make("div", { class: "wb-screen", role: "group", "aria-label": `Screen of ${s.model.get("label") || "the console"}` },
    make("div", { class: "wb-rows" }, ...s.rows), s.cursor, s.field);
  s.screen.style.setProperty("--wb-columns", s.model.get("columns"));
  s.said = make("span", { class: "wb-said", role: "status", "aria-live": "polite" });
  s.earlier = makeButton("Earlier lines", {}, () => s.model.send({ ask: "scroll", lines: s.rows.length - 2 }));
  s.later = makeButton("Later lines", {}, () => s.model.send({ ask: "scroll", lines: 2 - s.rows.length }));
  const bar = make("div", { class: "wb-terminal-bar", role: "toolbar", "aria-label": "Terminal" }, s.earlier, s.later,
    make("span", { class: "wb-hint", text: "In the terminal every key is the guest's; Ctrl+] leaves it." }), s.said);
  return make("section", { class: "wb wb-terminal", "aria-label": s.model.get("label") || "Console" }, s.screen, bar);
}

function drawRows(s, told) {
  for (const [line, runs] of told.rows) {
    if (s.rows[line]) s.rows[line].replaceChildren(...runs.map(runElement));
  }
  const [column, line, shown] = told.cursor;
  s.cursor.hidden = !shown;
  for (const each of [s.cursor, s.field]) {
    each.style.setProperty("--wb-at", column);
    each.style.setProperty("--wb-line-at", line);
  }
  s.earlier.disabled = told.back >= told.above;
  s.later.disabled = told.back === 0;
}

function pressed(s, event) {
  event.stopPropagation();
  if (event.isComposing || event.metaKey) return;
  const ctrl = event.ctrlKey && !event.getModifierState("AltGraph");
  if (ctrl && (event.key === "]" || event.code === "BracketRight")) {
    event.preventDefault();
    (s.earlier.disabled ? s.leave : s.earlier).focus();
  } else if (ctrl && event.shiftKey && ["C", "V"].includes(event.key)) {
    return; // the browser's own copy and paste
  } else if (event.shiftKey && ["PageUp", "PageDown"].includes(event.key)) {
    event.preventDefault();
    (event.key === "PageUp" ? s.earlier : s.later).click();
  } else if (SENT_KEYS.has(event.key) || ((ctrl || event.altKey) && event.key.length === 1 && !event.getModifierState("AltGraph"))) {
    event.preventDefault();
    s.model.send({ ask: "key", key: event.key, ctrl, alt: event.altKey, shift: event.shiftKey });
  }
}

function typed(s, event) {
  if (event.isComposing || !s.field.value) return;
  s.model.send({ ask: "text", text: s.field.value });
  s.field.value = "";
}

function render({ model, el }) {
  const began = performance.now();
  const ending = new AbortController(), { signal } = ending, s = { model };
  const root = buildTerminal(s);
  s.leave = make("span", { class: "wb-leave", tabindex: "-1", text: "Left the terminal." });
  root.append(s.leave);
  const say = () => { s.said.textContent = model.get("said"); root.classList.toggle("wb-off", !model.get("connected")); };
  s.field.addEventListener("keydown", (event) => pressed(s, event), { signal });
  s.field.addEventListener("input", (event) => typed(s, event), { signal });
  s.field.addEventListener("compositionend", () => typed(s, {}), { signal });
  s.field.addEventListener("paste", (event) => {
    event.preventDefault();
    model.send({ ask: "text", text: event.clipboardData.getData("text/plain") });
  }, { signal });
  s.screen.addEventListener("mouseup", () => { if (!String(window.getSelection())) s.field.focus({ preventScroll: true }); }, { signal });
  s.screen.addEventListener("wheel", (event) => {
    if (Math.abs(event.deltaY) < 1 || (event.deltaY < 0 ? s.earlier : s.later).disabled) return;
    event.preventDefault();
    model.send({ ask: "scroll", lines: event.deltaY < 0 ? 3 : -3 });
  }, { signal, passive: false });
  listen(model, signal, { "change:said": say, "change:connected": say, "msg:custom": (told) => { if (told.rows) drawRows(s, told); } });
  say();
  el.append(root);
  model.send({ ask: "all" });
  el.firstChild.dataset.readyMs = (performance.now() - began).toFixed(1);
  return () => ending.abort();
}

export default { render };
