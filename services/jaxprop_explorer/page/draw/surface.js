// What the output answers everywhere: over two inputs a surface with the rows as points on it, over one input a
// curve beside the curve that it should become.

import { label } from "./format.js";
import { onColours, paint, paintNumbers } from "./heat.js";

const SIDE = 240;
const PALE = 0.55; // of the colours, so that the rows stand out: also in panels/network.css

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Surface {
  /** `on.move([x, y] or null)` while a pointer is over it. */
  constructor(element, on) {
    this.element = element;
    element.classList.add("surface");
    this.field = element.appendChild(document.createElement("canvas"));
    this.over = element.appendChild(document.createElement("canvas"));
    this.over.className = "surface-over";
    this.over.setAttribute("role", "img");
    this.over.addEventListener("pointermove", (event) => on.move(this.inputsAt(event)));
    this.over.addEventListener("pointerleave", () => on.move(null));
    onColours(() => {
      this.drawn = null;
      if (this.frame) this.update(this.frame);
    });
  }

  update(frame) {
    this.frame = frame;
    const kind = frame.surface ? "surface" : frame.curve ? "curve" : side(frame) ? "image" : "none";
    this.element.dataset.kind = kind;
    if (kind === "surface") this.drawSurface(frame.surface);
    else if (kind === "curve") this.drawCurve(frame.curve);
    else {
      this.drawn = null;
      this.pen();
      this.drawImage(kind === "image" ? side(frame) : 0);
    }
  }

  /** The example in view, where it is an image. */
  drawImage(size) {
    const { values } = this.frame.inputs;
    this.field.hidden = size === 0;
    if (size > 0) paintNumbers(this.field, size, size, values, Math.max(...values.map(Math.abs)));
    this.over.setAttribute("aria-label", "The example in view, as an image");
  }

  pen() {
    const dense = Math.min(2, devicePixelRatio || 1);
    const side = Math.round(SIDE * dense);
    if (this.over.width !== side) {
      this.over.width = side;
      this.over.height = side;
    }
    const pen = this.over.getContext("2d");
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, SIDE, SIDE);
    return pen;
  }

  drawSurface(surface) {
    this.field.hidden = false;
    paint(this.field, surface.width, surface.height, surface.values);
    const key = `${surface.points.key} ${this.frame.inputs.values}`;
    if (this.drawn === key) return;
    this.drawn = key;
    const pen = this.pen();
    this.points(pen, surface);
    const [x, y] = this.frame.inputs.values;
    ring(pen, part(x, surface.x) * SIDE, SIDE - part(y, surface.y) * SIDE, 6, style("--ink"), 2);
    const { names } = this.frame.inputs;
    this.over.setAttribute(
      "aria-label",
      `The output over ${names.join(" and ")}, from ${label(surface.x[0])} to ` +
        `${label(surface.x[1])} and from ${label(surface.y[0])} to ${label(surface.y[1])}, with the rows as points`,
    );
  }

  /** Rows as discs, and as squares where the target is below the middle; hollow where they are held out. */
  points(pen, { x: across, y: up, points }) {
    const [edge, plus, minus] = ["--raised", "--positive", "--negative"].map(style);
    points.x.forEach(([x, y], k) => {
      const positive = points.target[k] > points.middle;
      const [left, top] = [part(x, across) * SIDE, SIDE - part(y, up) * SIDE];
      const held = points.validation[k];
      pen.beginPath();
      if (positive) pen.arc(left, top, 2.7, 0, 2 * Math.PI);
      else pen.rect(left - 2.4, top - 2.4, 4.8, 4.8);
      pen.fillStyle = held ? edge : positive ? plus : minus;
      pen.strokeStyle = held ? (positive ? plus : minus) : edge;
      pen.lineWidth = held ? 1.5 : 1;
      pen.fill();
      pen.stroke();
    });
  }

  drawCurve({ x, y, target, points }) {
    this.field.hidden = true;
    this.drawn = null;
    const pen = this.pen();
    const [plus, muted, line, ink] = ["--positive", "--muted", "--line", "--ink"].map(style);
    const known = [...(target ?? y), ...points.target].filter(Number.isFinite);
    const [low, high] = [Math.min(0, ...known), Math.max(0, ...known)];
    const room = (high - low) * 0.1 || 1;
    const [across, up] = [
      [x[0], x.at(-1)],
      [low - room, high + room],
    ];
    const stroke = (xs, values, colour, width, dash = []) => {
      pen.beginPath();
      values.forEach((v, k) => {
        if (Number.isFinite(v)) pen.lineTo(part(xs[k], across) * SIDE, SIDE - part(v, up) * SIDE);
      });
      Object.assign(pen, { strokeStyle: colour, lineWidth: width });
      pen.setLineDash(dash);
      pen.stroke();
      pen.setLineDash([]);
    };
    stroke(across, [0, 0], line, 1);
    stroke([0, 0], up, line, 1);
    points.x.forEach((at, k) => {
      pen.beginPath();
      pen.arc(part(at, across) * SIDE, SIDE - part(points.target[k], up) * SIDE, 1.8, 0, 2 * Math.PI);
      pen.fillStyle = muted;
      pen.fill();
    });
    if (target) stroke(x, target, muted, 1.5, [5, 4]);
    stroke(x, y, plus, 2.5);
    const now = this.frame.inputs.values[0];
    if (Number.isFinite(now)) stroke([now, now], up, ink, 1, [2, 3]);
    this.over.setAttribute(
      "aria-label",
      `The network's answer as a line${target ? ", the target as dashes" : ""}, over ` +
        `${this.frame.inputs.names[0]} from ${label(across[0])} to ${label(across[1])}`,
    );
  }

  /** The inputs under the pointer, as numbers. */
  inputsAt(event) {
    const { surface, curve } = this.frame ?? {};
    const box = this.over.getBoundingClientRect();
    const between = ([low, high], t) => low + (high - low) * t;
    const [right, up] = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
    if (surface) return [between(surface.x, right), between(surface.y, up)];
    return curve ? [between([curve.x[0], curve.x.at(-1)], right)] : null;
  }

  /** The whole picture on one canvas, to be kept. */
  picture() {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 2 * SIDE;
    const pen = canvas.getContext("2d");
    pen.fillStyle = style("--raised");
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.globalAlpha = PALE;
    if (!this.field.hidden) pen.drawImage(this.field, 0, 0, canvas.width, canvas.height);
    pen.globalAlpha = 1;
    pen.drawImage(this.over, 0, 0, canvas.width, canvas.height);
    return canvas;
  }
}

/** The side of the image that the inputs are, or 0 where they are none. */
function side(frame) {
  const length = frame.inputs.values.length;
  const root = Math.round(Math.sqrt(length));
  return length >= 49 && root * root === length ? root : 0;
}

function part(value, [low, high]) {
  return (value - low) / (high - low);
}

function ring(pen, x, y, radius, colour, width) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.stroke();
}
