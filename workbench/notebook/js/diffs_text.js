// A unified diff: colour, sign and, for those who hear it, a word say what became of a line.

const SAID = { "+": ["wb-added", "added"], "-": ["wb-removed", "removed"], " ": ["", ""], "@": ["wb-hunk", ""] };

function lineRow([sign, before, after, text]) {
  const [look, words] = SAID[sign] ?? ["", ""];
  const number = (value) => make("td", { class: "wb-number", text: value ? String(value) : "" });
  const mark = make("td", { class: "wb-sign" }, make("span", { "aria-hidden": "true", text: sign === "@" ? "" : sign }), make("span", { class: "wb-heard", text: words }));
  return make("tr", { class: look || null }, number(before), number(after), mark, make("td", { class: "wb-line" }, apart(text)));
}

export default { render: (given) => showDiff(given, "text", "How the text changed", ["before", "after", "change", "line"], (rows) => rows.map(lineRow)) };
