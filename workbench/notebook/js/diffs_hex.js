// A hex diff: both sides by rows of 16 bytes; bytes that differ are marked by colour and by a line under them.

const ROW = 16, bytesOf = (text) => text.match(/../g) ?? [];
const letter = (byte) => { const code = parseInt(byte, 16); return code >= 32 && code < 127 ? String.fromCharCode(code) : "."; };

// One side of a row: runs of equal and of differing bytes, each run one element.
function sideCells(mine, other, look) {
  const pairs = make("td", { class: "wb-bytes" }), letters = make("td", { class: "wb-letters" });
  for (let at = 0; at < mine.length;) {
    const unlike = mine[at] !== other[at];
    let end = at + 1;
    while (end < mine.length && (mine[end] !== other[end]) === unlike) end++;
    const run = mine.slice(at, end), tag = unlike ? "mark" : "span", attributes = unlike ? { class: look } : {};
    if (at) pairs.append(" ");
    pairs.append(make(tag, { ...attributes, text: run.join(" ") }));
    letters.append(make(tag, { ...attributes, text: run.map(letter).join("") }));
    at = end;
  }
  return [pairs, letters];
}

function hexRows(rows) {
  const made = [];
  let expected = rows.length ? parseInt(rows[0][0], 16) : 0;
  for (const [offset, before, after] of rows) {
    const skipped = parseInt(offset, 16) - expected, one = bytesOf(before), two = bytesOf(after);
    if (skipped > 0) made.push(make("tr", { class: "wb-hunk" }, make("td", { colspan: "5", text: `${skipped} bytes are equal` })));
    made.push(make("tr", {}, make("th", { scope: "row", text: offset }), ...sideCells(one, two, "wb-removed"), ...sideCells(two, one, "wb-added")));
    expected = parseInt(offset, 16) + ROW;
  }
  return made;
}

export default { render: (given) => showDiff(given, "hex", "How the bytes changed", ["offset", "bytes before", "as text", "bytes after", "as text"], hexRows) };
