// Data: from the columns of bytes to typed arrays, and how times and ids are found and written.
// One capture is 23 bytes: f64 ms, u32 and u32 (first digits of its id), f32 pages written, u16 lane, u8 mode.

const BYTES = 23;
const MODES = ["baseline", "continuous", "manual", "event", "safety"];

function decode(views) {
  const parts = views.filter((view) => view && view.byteLength >= BYTES).map((view) => {
    const n = Math.floor(view.byteLength / BYTES);
    // A copy: a view into a message need not begin at a multiple of 8.
    const b = view.buffer.slice(view.byteOffset, view.byteOffset + n * BYTES);
    return {
      time: new Float64Array(b, 0, n), high: new Uint32Array(b, 8 * n, n), low: new Uint32Array(b, 12 * n, n),
      written: new Float32Array(b, 16 * n, n), lane: new Uint16Array(b, 20 * n, n), mode: new Uint8Array(b, 22 * n, n),
    };
  });
  const n = parts.reduce((sum, part) => sum + part.time.length, 0);
  const data = {
    n, time: new Float64Array(n), high: new Uint32Array(n), low: new Uint32Array(n),
    written: new Float32Array(n), lane: new Uint16Array(n), mode: new Uint8Array(n), height: new Float32Array(n),
  };
  let at = 0;
  for (const part of parts) {
    for (const name of Object.keys(part)) data[name].set(part[name], at);
    at += part.time.length;
  }
  // How tall a capture is drawn, 4 to 18 pixels: the order of magnitude of what it wrote, up to a million pages.
  for (let i = 0; i < n; i++) data.height[i] = 4 + 14 * Math.min(1, Math.log2(1 + data.written[i]) / 20);
  return data;
}

// The first position whose time is not before `time`.
function lowerBound(times, time) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < time) low = middle + 1; else high = middle;
  }
  return low;
}

function hexOf(data, i) {
  return data.high[i].toString(16).padStart(8, "0") + data.low[i].toString(16).padStart(8, "0");
}

function indexOf(data, id) {
  if (!id || id.length < 16) return -1;
  const high = parseInt(id.slice(0, 8), 16), low = parseInt(id.slice(8, 16), 16);
  for (let i = data.n - 1; i >= 0; i--) if (data.high[i] === high && data.low[i] === low) return i;
  return -1;
}

// The capture of a lane nearest to a time, looking at most so many captures away; -1 where there is none.
function nearest(data, time, lane, reach = 200000) {
  const begin = lowerBound(data.time, time);
  let after = begin, before = begin - 1;
  while (after < data.n && after - begin < reach && data.lane[after] !== lane) after++;
  while (before >= 0 && begin - before < reach && data.lane[before] !== lane) before--;
  if (after >= data.n || data.lane[after] !== lane) after = -1;
  if (before >= 0 && data.lane[before] !== lane) before = -1;
  if (after < 0 || before < 0) return Math.max(after, before);
  return data.time[after] - time < time - data.time[before] ? after : before;
}

// The next capture in a direction: of the same lane, or of any with lane -1.
function next(data, from, direction, lane) {
  let i = from + direction;
  while (i >= 0 && i < data.n && lane >= 0 && data.lane[i] !== lane) i += direction;
  return i >= 0 && i < data.n ? i : -1;
}

function timeText(ms, digits = 3) {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return "?";
  const text = date.toISOString().replace("T", " ").replace("Z", "");
  return digits ? text : text.slice(0, 19);
}

function spanText(ms) {
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  if (ms < 120e3) return `${(ms / 1e3).toFixed(1)} s`;
  if (ms < 7200e3) return `${(ms / 60e3).toFixed(1)} min`;
  return ms < 172800e3 ? `${(ms / 3600e3).toFixed(1)} h` : `${(ms / 86400e3).toFixed(1)} d`;
}

// Round steps for the axis, in ms, so that labels do not touch.
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 900e3,
  1800e3, 3600e3, 7200e3, 14400e3, 21600e3, 43200e3, 86400e3, 172800e3, 604800e3, 2592e6, 7776e6, 31536e6];

function axisStep(span, room) {
  const wanted = span / Math.max(1, room);
  return STEPS.find((step) => step >= wanted) ?? Math.ceil(wanted / 31536e6) * 31536e6;
}
