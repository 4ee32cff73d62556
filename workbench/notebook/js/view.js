// View: which span of time is visible. Zooming is not filtering: the brush is another span, and is the user's answer.

const GUTTER = 140, RIGHT = 12, LANE = 34, AXIS = 26, OVERVIEW = 44, NARROWEST = 1, UNDOS = 100;

class View {
  constructor(changed) {
    this.full = [0, 1]; this.span = [0, 1]; this.width = 800; this.past = []; this.changed = changed;
  }
  // Take the bounds of the data; a view that showed everything, or ended at the latest, goes on doing so.
  bound(data, first) {
    const before = this.full;
    const all = this.span[0] <= before[0] && this.span[1] >= before[1];
    const atEnd = this.span[1] >= before[1];
    const low = data.n ? data.time[0] : 0, high = data.n ? data.time[data.n - 1] : 1;
    const pad = Math.max(NARROWEST, (high - low) * 0.01);
    this.full = [low - pad, high + pad];
    if (first || all) this.span = [...this.full];
    else if (atEnd) this.span = [this.span[0] + this.full[1] - before[1], this.full[1]];
  }
  get inner() { return Math.max(1, this.width - GUTTER - RIGHT); }
  get size() { return this.span[1] - this.span[0]; }
  x(time) { return GUTTER + ((time - this.span[0]) / this.size) * this.inner; }
  time(x) { return this.span[0] + ((x - GUTTER) / this.inner) * this.size; }
  overX(time) { return GUTTER + ((time - this.full[0]) / (this.full[1] - this.full[0])) * this.inner; }
  overTime(x) { return this.full[0] + ((x - GUTTER) / this.inner) * (this.full[1] - this.full[0]); }
  // Show a span; `settled` is false while a hand still drags.
  show(begin, end, settled = true) {
    const most = (this.full[1] - this.full[0]) * 1.5;
    const size = Math.min(most, Math.max(NARROWEST, end - begin));
    const centre = Math.min(this.full[1], Math.max(this.full[0], (begin + end) / 2));
    this.span = [centre - size / 2, centre + size / 2];
    this.changed(settled);
  }
  remember() {
    const last = this.past[this.past.length - 1];
    if (last && last[0] === this.span[0] && last[1] === this.span[1]) return;
    this.past.push([...this.span]);
    if (this.past.length > UNDOS) this.past.shift();
  }
  go(begin, end) { this.remember(); this.show(begin, end); }
  undo() { const last = this.past.pop(); if (last) this.show(...last); return Boolean(last); }
  fit() { this.go(...this.full); }
  zoom(factor, at = (this.span[0] + this.span[1]) / 2, remember = true) {
    if (remember) this.remember();
    // The time under the cursor stays under it.
    this.show(at - (at - this.span[0]) * factor, at + (this.span[1] - at) * factor);
  }
  pan(share) { const by = this.size * share; this.go(this.span[0] + by, this.span[1] + by); }
  reveal(time) {
    if (time < this.span[0] || time > this.span[1]) this.go(time - this.size / 2, time + this.size / 2);
  }
}
