// Sparkline: one line of the last values, its foot at zero; what it says stands beside it in words.

const SVG_NAMES = "http://www.w3.org/2000/svg";
const SPARK = { width: 240, height: 40 };

function svgElement(tag, attributes) {
  const made = document.createElementNS(SVG_NAMES, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function sparkPoints(points) {
  const most = Math.max(1e-9, ...points), step = SPARK.width / Math.max(1, points.length - 1);
  return points.map((value, at) => `${(at * step).toFixed(1)},${(SPARK.height - 2 - (value / most) * (SPARK.height - 4)).toFixed(1)}`).join(" ");
}

function render({ model, el }) {
  const began = performance.now();
  const ending = new AbortController();
  const line = svgElement("polyline", { fill: "none", "stroke-width": "1.5" });
  const picture = svgElement("svg", { viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, "aria-hidden": "true" });
  picture.append(svgElement("path", { class: "wb-spark-foot", d: `M0 ${SPARK.height - 1}H${SPARK.width}` }), line);
  const words = make("span", { class: "wb-spark-words" });
  const draw = () => {
    line.setAttribute("points", sparkPoints(model.get("points")));
    words.textContent = model.get("words");
  };
  listen(model, ending.signal, { "change:points": draw, "change:words": draw });
  draw();
  el.append(make("div", { class: "wb wb-spark", role: "group", "aria-label": model.get("label") },
    make("span", { class: "wb-spark-label", text: model.get("label") }), picture, words));
  el.firstChild.dataset.readyMs = (performance.now() - began).toFixed(1);
  return () => ending.abort();
}

export default { render };
