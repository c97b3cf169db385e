// Curves on axes, as SVG: numbers come from Python, here they only get a place. Either axis may be logarithmic.

import { number } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [360, 220];
const [LEFT, RIGHT, TOP, FOOT] = [46, 10, 10, 34];

function draw(parent, tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

/** A scale from numbers to places on the page, and where its marks are. */
function scale([low, high], [from, to], log) {
  const at = log ? Math.log10 : (v) => v;
  const [a, b] = [at(low), at(high)];
  const place = (v) => from + ((at(v) - a) / (b - a || 1)) * (to - from);
  return { place, marks: log ? decades(a, b) : steps(low, high), holds: (v) => Number.isFinite(v) && (!log || v > 0) };
}

function decades(a, b) {
  const every = Math.max(1, Math.ceil((b - a) / 5));
  const marks = [];
  for (let k = Math.ceil(a); k <= Math.floor(b); k += 1)
    if (k % every === 0) marks.push([10 ** k, `10${superscript(k)}`]);
  return marks;
}

function superscript(k) {
  return [...String(k)].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)])).join("");
}

function steps(low, high) {
  const rough = (high - low) / 4 || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * size).find((s) => s >= rough);
  const marks = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + 1e-9 * step; v += step)
    marks.push([v, number(Math.abs(v) < step / 1e6 ? 0 : v, 2)]);
  return marks;
}

/** Draw `{series: [{x, y, kind, name}], dots: [{x, y, kind}], x: {label, log, range}, y: {…}, words}` into a figure. */
export function lines(svg, { series, dots = [], guides = [], x, y, words }) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", words);
  svg.classList.add("lines");
  svg.replaceChildren();
  const across = scale(x.range, [LEFT, WIDTH - RIGHT], x.log);
  const up = scale(y.range, [HEIGHT - FOOT, TOP], y.log);
  for (const [value, text] of across.marks) {
    draw(svg, "line", { x1: across.place(value), x2: across.place(value), y1: TOP, y2: HEIGHT - FOOT, class: "grid" });
    draw(svg, "text", { x: across.place(value), y: HEIGHT - FOOT + 14, class: "mark", "text-anchor": "middle" }, text);
  }
  for (const [value, text] of up.marks) {
    draw(svg, "line", { x1: LEFT, x2: WIDTH - RIGHT, y1: up.place(value), y2: up.place(value), class: "grid" });
    draw(svg, "text", { x: LEFT - 6, y: up.place(value) + 4, class: "mark", "text-anchor": "end" }, text);
  }
  draw(svg, "text", { x: WIDTH - RIGHT, y: HEIGHT - 3, class: "axis-name", "text-anchor": "end" }, x.label);
  for (const guide of guides) {
    draw(svg, "line", {
      x1: across.place(guide.x),
      x2: across.place(guide.x),
      y1: TOP,
      y2: HEIGHT - FOOT,
      class: "guide",
    });
  }
  for (const line of series) draw(svg, "path", { d: path(line, across, up), class: `line ${line.kind}` });
  for (const dot of dots) {
    if (across.holds(dot.x) && up.holds(dot.y))
      draw(svg, "circle", { cx: across.place(dot.x), cy: up.place(dot.y), r: 4.5, class: `dot ${dot.kind}` });
  }
}

function path({ x, y }, across, up) {
  let text = "";
  let pen = "M";
  x.forEach((at, i) => {
    if (!across.holds(at) || !up.holds(y[i])) {
      pen = "M";
      return;
    }
    text += `${pen}${across.place(at).toFixed(1)} ${up.place(y[i]).toFixed(1)}`;
    pen = "L";
  });
  return text;
}

/** From where to where numbers go, with some room; of those that can be drawn. */
export function range(values, { log = false, room = 0.06, least = 0 } = {}) {
  const known = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  let [low, high] = [Math.min(...known), Math.max(...known)];
  if (!known.length) [low, high] = log ? [0.1, 1] : [0, 1];
  if (log) return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high) + 1e-9)];
  if (high - low < least) [low, high] = [(low + high - least) / 2, (low + high + least) / 2];
  const more = (high - low || 1) * room;
  return [low - more, high + more];
}

export function figure(caption) {
  const element = document.createElement("figure");
  const svg = document.createElementNS(SVG, "svg");
  const told = document.createElement("figcaption");
  told.append(caption);
  element.append(svg, told);
  return { element, svg, told };
}
