// Base: what every page of ours is made with. Joined before the other files; has no state.

// An element. Texts are set as text, so that no name of a guest is ever markup; what is null or false is left out.
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// A button that keeps its keys from JupyterLab.
function makeButton(text, attributes = {}, pressed = null) {
  const button = make("button", { type: "button", text, "data-lm-suppress-shortcuts": "true", ...attributes });
  if (pressed) button.addEventListener("click", pressed);
  return button;
}

// A name whose direction of writing does not reach its neighbours: in a text, and as an element.
const isolated = (text) => `\u2068${text}\u2069`;
const apart = (text, attributes = {}) => make("bdi", { ...attributes, text });

// Listen to the model until the view is gone: { "change:selected": deed, "msg:custom": deed }.
function listen(model, signal, deeds) {
  for (const [name, deed] of Object.entries(deeds)) {
    model.on(name, deed);
    signal.addEventListener("abort", () => model.off(name, deed));
  }
}

// Do something once, when nothing has asked for it again for a while.
function calmly(ms, deed) {
  let waiting = 0;
  return (...given) => { clearTimeout(waiting); waiting = setTimeout(() => deed(...given), ms); };
}
