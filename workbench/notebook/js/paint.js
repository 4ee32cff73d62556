// Paint: the overview and the lanes, on two canvases. Text goes through fillText alone.

function palette(root) {
  const css = getComputedStyle(root);
  const pick = (name) => css.getPropertyValue(name).trim();
  return { ink: pick("--wb-ink"), dim: pick("--wb-dim"), line: pick("--wb-line"), paper: pick("--wb-paper"), accent: pick("--wb-accent"), shade: pick("--wb-shade") };
}

function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const w = Math.round(width * ratio), h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w; canvas.height = h; canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.font = "11px sans-serif"; g.textBaseline = "middle"; g.textAlign = "left"; g.lineWidth = 1; g.globalAlpha = 1; g.setLineDash([]);
  return g;
}

const laneY = (lane) => AXIS + lane * LANE + LANE - 12;

// How many captures fall into each column of the overview; counted once per width and data.
function histogram(s) {
  const { data, view } = s, columns = Math.max(1, Math.round(view.inner));
  if (s.bins?.data === data && s.bins.counts.length === columns && s.bins.low === view.full[0] && s.bins.high === view.full[1]) return s.bins;
  const counts = new Uint32Array(columns), scale = columns / (view.full[1] - view.full[0]);
  let most = 1;
  for (let i = 0; i < data.n; i++) {
    const at = Math.min(columns - 1, Math.max(0, ((data.time[i] - view.full[0]) * scale) | 0));
    if (++counts[at] > most) most = counts[at];
  }
  s.bins = { data, counts, most, low: view.full[0], high: view.full[1] };
  return s.bins;
}

function paintOverview(s) {
  const g = prepare(s.overview, s.view.width, OVERVIEW), { ink, dim, accent, paper, shade } = s.colours;
  g.fillStyle = paper; g.fillRect(0, 0, s.view.width, OVERVIEW);
  const { counts, most } = histogram(s), room = OVERVIEW - 8;
  g.fillStyle = dim;
  for (let i = 0; i < counts.length; i++) {
    if (!counts[i]) continue;
    const h = Math.max(1, (counts[i] / most) * room);
    g.fillRect(GUTTER + i, OVERVIEW - 2 - h, 1, h);
  }
  const left = Math.max(GUTTER, s.view.overX(s.view.span[0])), right = Math.min(GUTTER + s.view.inner, s.view.overX(s.view.span[1]));
  g.fillStyle = shade; g.globalAlpha = 0.55;
  g.fillRect(GUTTER, 1, left - GUTTER, OVERVIEW - 2); g.fillRect(right, 1, GUTTER + s.view.inner - right, OVERVIEW - 2);
  g.globalAlpha = 1; g.strokeStyle = accent; g.lineWidth = 2;
  g.strokeRect(left, 2, Math.max(3, right - left), OVERVIEW - 4);
  g.fillStyle = ink;
  g.fillText("all captures", 8, OVERVIEW / 2, GUTTER - 16);
}

function paintAxis(g, s, height) {
  const { ink, line } = s.colours, { view } = s;
  const step = axisStep(view.size, view.inner / 90);
  g.strokeStyle = line; g.fillStyle = ink; g.textAlign = "center";
  for (let time = Math.ceil(view.span[0] / step) * step; time <= view.span[1]; time += step) {
    const x = view.x(time);
    g.beginPath(); g.moveTo(x, AXIS - 4); g.lineTo(x, height); g.stroke();
    const text = timeText(time);
    g.fillText(step >= 86400e3 ? text.slice(0, 10) : step >= 1000 ? text.slice(11, 19) : text.slice(14), x, 9);
  }
  g.textAlign = "left";
  g.fillText(`${timeText(view.span[0]).slice(0, 10)} UTC`, 8, 9, GUTTER - 16);
}

// A label cut to the room beside the lanes; measured once.
function fitted(g, s, label) {
  s.fitted ??= new Map();
  if (!s.fitted.has(label)) {
    let text = label;
    while (text.length > 1 && g.measureText(text).width > GUTTER - 20) text = `${text.slice(0, text.endsWith("...") ? -4 : -1)}...`;
    s.fitted.set(label, text);
  }
  return s.fitted.get(label);
}

function paintLanes(g, s) {
  const { ink, line } = s.colours;
  s.lanes.forEach((lane, at) => {
    g.strokeStyle = line; g.beginPath(); g.moveTo(GUTTER, laneY(at) + 0.5); g.lineTo(s.view.width - RIGHT, laneY(at) + 0.5); g.stroke();
    g.fillStyle = ink; g.fillText(fitted(g, s, lane.label), 8, laneY(at));
  });
}

function paintForks(g, s) {
  for (const fork of s.forks) {
    g.strokeStyle = fork.clone ? PINK : RED; g.lineWidth = 2;
    const x = s.view.x(fork.from_time), y = laneY(fork.from), to = s.view.x(fork.time), end = laneY(fork.lane);
    g.beginPath(); g.moveTo(x, y); g.bezierCurveTo(x, (y + end) / 2, to, (y + end) / 2, to, end); g.stroke();
    shape(g, "circle", x, y, 4, fork.clone ? PINK : RED, s.colours.paper);
  }
  g.lineWidth = 1;
}

// Clones: a bar from the moment each began at, as long as it has been there; what lies over another is drawn lower.
function paintRuns(g, s) {
  const ends = new Map();
  for (const run of s.runs) {
    const x = s.view.x(run.time), end = Math.max(x + 16, s.view.x(run.time + Math.max(0, Date.now() - run.started)));
    if (end < GUTTER || x > s.view.width) continue;
    const rows = ends.get(run.lane) ?? [];
    let row = rows.findIndex((last) => last < x - 2);
    if (row < 0) row = Math.min(rows.length, 2);
    rows[row] = end;
    ends.set(run.lane, rows);
    const y = laneY(run.lane) + 3 + 3 * row;
    g.fillStyle = PINK; g.fillRect(x, y, end - x, 2.5);
    g.fillRect(x, laneY(run.lane), 1.5, y - laneY(run.lane));
  }
}

// Captures: of those that fall on one pixel of one lane, one is drawn, as tall as the tallest and in the rarer mode.
function paintCaptures(g, s) {
  const { data, view } = s, width = Math.ceil(view.width), cells = width * s.lanes.length;
  if (s.tall?.length !== cells) { s.tall = new Float32Array(cells); s.kinds = new Uint8Array(cells); }
  s.tall.fill(0); s.kinds.fill(0);
  const used = [], scale = view.inner / view.size;
  const end = lowerBound(data.time, view.span[1]);
  for (let i = lowerBound(data.time, view.span[0]); i < end; i++) {
    const cell = data.lane[i] * width + ((GUTTER + (data.time[i] - view.span[0]) * scale) | 0);
    if (cell >= cells) continue;
    if (!s.tall[cell]) used.push(cell);
    if (data.height[i] > s.tall[cell]) s.tall[cell] = data.height[i];
    if (data.mode[i] !== 1) s.kinds[cell] = data.mode[i] + 1;
  }
  g.fillStyle = BLUE;
  const thick = used.length > view.inner / 3 ? 1 : 2;
  for (const cell of used) {
    const lane = (cell / width) | 0;
    g.fillRect(cell - lane * width, laneY(lane) - s.tall[cell] / 2, thick, s.tall[cell]);
  }
  const lastX = new Float64Array(s.lanes.length).fill(-99);
  for (const cell of used) {
    if (!s.kinds[cell]) continue;
    const lane = (cell / width) | 0, x = cell - lane * width, [colour, form] = MODE_LOOK[MODES[s.kinds[cell] - 1]] ?? [BLUE, ""];
    if (!form || x - lastX[lane] < 5) continue;
    lastX[lane] = x;
    shape(g, form, x, laneY(lane), 4.5, colour, s.colours.ink);
  }
  return used.length;
}

function paintMarks(g, s) {
  for (const mark of s.marks) {
    const x = s.view.x(mark.time);
    if (x < GUTTER || x > s.view.width) continue;
    const [colour, form] = MARK_LOOK[mark.kind] ?? OTHER_MARK;
    shape(g, form, x, laneY(mark.lane) - 14, 5, colour, s.colours.ink);
  }
}

function paintChosen(g, s, height) {
  const { ink, accent, paper } = s.colours, { view, data } = s;
  if (s.brush.length === 2) {
    const left = view.x(s.brush[0]), right = view.x(s.brush[1]);
    g.fillStyle = accent; g.globalAlpha = 0.2; g.fillRect(left, AXIS, Math.max(1, right - left), height - AXIS); g.globalAlpha = 1;
    g.strokeStyle = accent;
    for (const x of [left, right]) { g.beginPath(); g.moveTo(x, AXIS); g.lineTo(x, height); g.stroke(); }
  }
  for (const here of s.here) {
    const x = view.x(here.time), y = laneY(here.lane);
    if (x < GUTTER || x > view.width) continue;
    g.strokeStyle = GREEN; g.lineWidth = 2; g.beginPath(); g.arc(x, y, 6, 0, 7); g.stroke();
    g.textAlign = "right"; g.strokeStyle = paper; g.lineWidth = 3; g.strokeText("you are here", x - 9, y + 11);
    g.fillStyle = ink; g.fillText("you are here", x - 9, y + 11); g.textAlign = "left";
  }
  for (const [at, dashed] of [[s.preview, true], [s.cursor, false]]) {
    if (at < 0 || at >= data.n) continue;
    const x = view.x(data.time[at]), y = laneY(data.lane[at]);
    if (x < GUTTER || x > view.width) continue;
    g.setLineDash(dashed ? [3, 3] : []); g.lineWidth = dashed ? 1 : 2; g.strokeStyle = ink;
    g.beginPath(); g.moveTo(x, AXIS - 8); g.lineTo(x, height); g.stroke(); g.setLineDash([]);
    g.strokeStyle = paper; g.lineWidth = 4; g.beginPath(); g.arc(x, y, 9, 0, 7); g.stroke();
    g.strokeStyle = ink; g.lineWidth = 2; g.beginPath(); g.arc(x, y, 9, 0, 7); g.stroke();
  }
}

function paint(s) {
  s.colours = palette(s.root);
  const height = AXIS + Math.max(1, s.lanes.length) * LANE + 6, g = prepare(s.canvas, s.view.width, height);
  g.fillStyle = s.colours.paper; g.fillRect(0, 0, s.view.width, height);
  paintAxis(g, s, height);
  paintLanes(g, s);
  g.save(); g.beginPath(); g.rect(GUTTER - 10, 0, s.view.width, height); g.clip();
  s.drawn = paintCaptures(g, s);
  paintForks(g, s);
  paintRuns(g, s);
  paintMarks(g, s);
  paintChosen(g, s, height);
  g.restore();
  paintOverview(s);
}
