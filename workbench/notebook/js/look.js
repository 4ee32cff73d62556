// Look: colours that stay apart for colour-blind eyes (Okabe-Ito), shapes that stay apart without any, icons.

const BLUE = "#0072B2", ORANGE = "#E69F00", GREEN = "#009E73", RED = "#D55E00", PINK = "#CC79A7", SKY = "#56B4E9";

// How the modes of captures are drawn: continuous as a plain tick, the others with a head.
const MODE_LOOK = {
  baseline: [GREEN, "square"], continuous: [BLUE, ""], manual: [SKY, "circle"], event: [ORANGE, "triangle"],
  safety: [PINK, "diamond"],
};
const MARK_LOOK = {
  note: [GREEN, "circle"], event: [ORANGE, "triangle"], alert: [RED, "diamond"], yara: [PINK, "square"],
  rewind: [SKY, "back"], safety: [BLUE, "hexagon"],
};
const OTHER_MARK = ["#F0E442", "cross"];

const SHAPES = {
  circle: (g, x, y, r) => g.arc(x, y, r, 0, 2 * Math.PI),
  square: (g, x, y, r) => g.rect(x - r * 0.85, y - r * 0.85, r * 1.7, r * 1.7),
  triangle: (g, x, y, r) => polygon(g, x, y, r * 1.2, 3, -Math.PI / 2),
  diamond: (g, x, y, r) => polygon(g, x, y, r * 1.2, 4, 0),
  hexagon: (g, x, y, r) => polygon(g, x, y, r * 1.1, 6, 0),
  back: (g, x, y, r) => polygon(g, x, y, r * 1.2, 3, Math.PI),
  cross: (g, x, y, r) => {
    const a = r * 0.4;
    g.moveTo(x - a, y - r); g.lineTo(x + a, y - r); g.lineTo(x + a, y - a); g.lineTo(x + r, y - a);
    g.lineTo(x + r, y + a); g.lineTo(x + a, y + a); g.lineTo(x + a, y + r); g.lineTo(x - a, y + r);
    g.lineTo(x - a, y + a); g.lineTo(x - r, y + a); g.lineTo(x - r, y - a); g.lineTo(x - a, y - a); g.closePath();
  },
};

function polygon(g, x, y, r, corners, turn) {
  for (let i = 0; i < corners; i++) {
    const angle = turn + (i * 2 * Math.PI) / corners;
    g.lineTo(x + r * Math.cos(angle), y + r * Math.sin(angle));
  }
  g.closePath();
}

function shape(g, name, x, y, r, fill, outline) {
  g.beginPath();
  SHAPES[name](g, x, y, r);
  g.fillStyle = fill; g.fill();
  g.strokeStyle = outline; g.lineWidth = 1; g.stroke();
}

// Icons are drawn as paths: glyphs for them are missing on some systems.
const ICONS = {
  previous: "M10 3L5 8l5 5", next: "M6 3l5 5-5 5", latest: "M4 3l5 5-5 5M12 3v10", mark: "M4 14V2l8 3.5L4 9",
  zoomIn: "M8 3v10M3 8h10", zoomOut: "M3 8h10", fit: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4", undo: "M6 3L2 7l4 4M2 7h8a4 4 0 0 1 0 7",
  begin: "M10 2H5v12h5", end: "M6 2h5v12H6", clear: "M3 3l10 10M13 3L3 13", note: "M3 13l1-4 7-7 3 3-7 7zM3 13h10",
  live: "M8 8h.01M5 5a4 4 0 0 0 0 6M11 5a4 4 0 0 1 0 6M2.5 2.5a8 8 0 0 0 0 11M13.5 2.5a8 8 0 0 1 0 11",
  list: "M3 4h.01M6 4h8M3 8h.01M6 8h8M3 12h.01M6 12h8", copy: "M6 3h7v9H6zM10 12v2H3V5h3", help: "M5.5 6a2.5 2.5 0 1 1 3.5 2.3c-.7.3-1 .8-1 1.7M8 13h.01",
};
const SVG = "http://www.w3.org/2000/svg";

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" })) svg.setAttribute(key, value);
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

// An element of a class, with a text.
const element = (tag, name = "", text = "", attributes = {}) => make(tag, { class: name || null, text: text || null, ...attributes });
