// A canvas that keeps its resolution and colours: it draws anew when its size or the colour scheme changes.

const STOPS = {
  // from the lowest height to the highest
  light: [
    [253, 246, 214],
    [188, 214, 196],
    [96, 152, 172],
    [38, 76, 118],
  ],
  dark: [
    [247, 226, 150],
    [120, 172, 164],
    [52, 104, 140],
    [24, 44, 78],
  ],
};
const dark = matchMedia("(prefers-color-scheme: dark)");

export class Ground {
  constructor(canvas, paint) {
    this.canvas = canvas;
    this.paint = paint;
    this.asked = false;
    new ResizeObserver(() => this.draw()).observe(canvas);
    dark.addEventListener("change", () => this.draw());
  }

  // Draw at the next moment that the browser paints, however often it is asked before.
  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      const { clientWidth: width, clientHeight: height } = this.canvas;
      if (!width || !height) return;
      const scale = window.devicePixelRatio || 1;
      const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
      if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
      const pen = this.canvas.getContext("2d");
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      pen.clearRect(0, 0, width, height);
      this.paint(pen, width, height, colors(this.canvas));
    });
  }
}

/** Let an object hear what a pointer does on its canvas: `take`, `drag` and `drop`; and keys, if it has `push`. */
export function grasp(canvas, owner) {
  canvas.addEventListener("pointerdown", (event) => owner.take(event));
  canvas.addEventListener("pointermove", (event) => owner.drag(event));
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => owner.drop());
  if (owner.push) canvas.addEventListener("keydown", (event) => owner.push(event));
}

/** Begin a closed line through points. */
export function outline(pen, points) {
  pen.beginPath();
  points.forEach(([a, b], k) => {
    if (k) pen.lineTo(a, b);
    else pen.moveTo(a, b);
  });
  pen.closePath();
}

// The page's colours, as the style sheet has them now.
export function colors(element) {
  const style = getComputedStyle(element);
  const found = {};
  for (const name of ["ink", "paper", "muted", "accent", "positive", "negative"]) {
    found[name] = style.getPropertyValue(`--${name}`).trim();
  }
  return found;
}

// The colour of a share between 0 and 1, a little darker or lighter by `light`.
export function ramp(share, light = 1) {
  const stops = STOPS[dark.matches ? "dark" : "light"];
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  const mixed = stops[low].map((from, i) => Math.round(light * (from + (at - low) * (stops[low + 1][i] - from))));
  return `rgb(${mixed.map((part) => Math.min(part, 255)).join(" ")})`;
}

// Where a height lies between the levels, as a share: the levels say how heights are spaced.
export function between(levels, height) {
  const last = levels.length - 1;
  if (last < 1 || height <= levels[0]) return 0;
  if (height >= levels[last]) return 1;
  let k = 0;
  while (height > levels[k + 1]) k += 1;
  return (k + (height - levels[k]) / (levels[k + 1] - levels[k])) / last;
}

// The height of the drawn surface at a place, between its grid points.
export function heightAt(seen, x, y) {
  const { side, heights } = seen;
  const [i, j] = [
    [x, seen.x],
    [y, seen.y],
  ].map(([value, [low, high]]) => Math.min(Math.max((value - low) / (high - low), 0), 1) * (side - 1));
  const [a, b] = [Math.min(Math.floor(i), side - 2), Math.min(Math.floor(j), side - 2)];
  const [s, t] = [i - a, j - b];
  const of = (column, row) => heights[row * side + column];
  return (1 - t) * ((1 - s) * of(a, b) + s * of(a + 1, b)) + t * ((1 - s) * of(a, b + 1) + s * of(a + 1, b + 1));
}

export function inside(seen, [x, y]) {
  return x >= seen.x[0] && x <= seen.x[1] && y >= seen.y[0] && y <= seen.y[1];
}
