// What the output answers everywhere: over two inputs a surface with the rows as points on it, over one input a curve
// beside the curve that it should become.

import { label } from "./format.js";
import { decode, onColours, paint } from "./heat.js";

const SIDE = 240;

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
    onColours(() => { this.drawn = null; if (this.frame) this.update(this.frame); });
  }

  update(frame) {
    this.frame = frame;
    const { surface, curve } = frame;
    this.element.dataset.kind = surface ? "surface" : curve ? "curve" : "none";
    if (surface) this.drawSurface(surface);
    else if (curve) this.drawCurve(curve);
  }

  pen() {
    const dense = Math.min(2, devicePixelRatio || 1);
    const side = Math.round(SIDE * dense);
    if (this.over.width !== side) { this.over.width = side; this.over.height = side; }
    const pen = this.over.getContext("2d");
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, SIDE, SIDE);
    return pen;
  }

  drawSurface(surface) {
    this.field.hidden = false;
    paint(this.field, surface.width, surface.height, surface.values);
    const chosen = this.frame.example?.index;
    const key = JSON.stringify([surface.points?.key ?? surface.points?.x?.length, chosen]);
    if (this.drawn === key) return;
    this.drawn = key;
    const pen = this.pen();
    const [plus, minus, edge, ink] = ["--positive", "--negative", "--raised", "--ink"].map(style);
    const at = (value, [low, high]) => (value - low) / (high - low) * SIDE;
    const points = surface.points ?? { x: [], target: [] };
    points.x.forEach(([x, y], k) => {
      const positive = points.target[k] > (points.middle ?? 0);
      const held = points.validation?.[k];
      pen.beginPath();
      pen.arc(at(x, surface.x), SIDE - at(y, surface.y), held ? 2.2 : 2.8, 0, 2 * Math.PI);
      pen.fillStyle = held ? edge : positive ? plus : minus;
      pen.strokeStyle = held ? (positive ? plus : minus) : edge;
      pen.lineWidth = held ? 1.4 : 1;
      pen.fill();
      pen.stroke();
    });
    if (chosen !== undefined && this.frame.inputs.values.length === 2) {
      const [x, y] = this.frame.inputs.values;
      pen.beginPath();
      pen.arc(at(x, surface.x), SIDE - at(y, surface.y), 6, 0, 2 * Math.PI);
      pen.strokeStyle = ink;
      pen.lineWidth = 2;
      pen.stroke();
    }
    this.over.setAttribute("aria-label", `The output over ${this.frame.inputs.names.join(" and ")}, from ` +
      `${label(surface.x[0])} to ${label(surface.x[1])} and from ${label(surface.y[0])} to ${label(surface.y[1])}, ` +
      `with ${points.x.length} rows as points`);
  }

  drawCurve(curve) {
    this.field.hidden = true;
    this.drawn = null;
    const pen = this.pen();
    const [plus, muted, line, ink] = ["--positive", "--muted", "--line", "--ink"].map(style);
    const ys = [...curve.y, ...(curve.target ?? []), ...(curve.points?.target ?? [])].filter(Number.isFinite);
    const [low, high] = [Math.min(0, ...ys), Math.max(0, ...ys)];
    const room = (high - low) * 0.08 || 1;
    this.span = { low: low - room, high: high + room };
    const atX = (x) => (x - curve.x[0]) / (curve.x.at(-1) - curve.x[0]) * SIDE;
    const atY = (y) => SIDE - (y - this.span.low) / (this.span.high - this.span.low) * SIDE;
    const stroke = (xs, values, colour, width, dash = []) => {
      pen.beginPath();
      values.forEach((y, k) => { if (Number.isFinite(y)) pen.lineTo(atX(xs[k]), atY(y)); });
      Object.assign(pen, { strokeStyle: colour, lineWidth: width });
      pen.setLineDash(dash);
      pen.stroke();
      pen.setLineDash([]);
    };
    stroke([curve.x[0], curve.x.at(-1)], [0, 0], line, 1);
    stroke([0, 0], [this.span.low, this.span.high], line, 1);
    for (const [k, x] of (curve.points?.x ?? []).entries()) {
      pen.beginPath();
      pen.arc(atX(x), atY(curve.points.target[k]), 1.8, 0, 2 * Math.PI);
      pen.fillStyle = muted;
      pen.fill();
    }
    if (curve.target) stroke(curve.x, curve.target, muted, 1.5, [5, 4]);
    stroke(curve.x, curve.y, plus, 2.5);
    const x = this.frame.inputs.values[0];
    if (Number.isFinite(x)) stroke([x, x], [this.span.low, this.span.high], ink, 1, [2, 3]);
    this.over.setAttribute("aria-label", `The network's answer (line) and the target (dashes) for ${this.frame.inputs.names[0]} ` +
      `from ${label(curve.x[0])} to ${label(curve.x.at(-1))}`);
  }

  /** The inputs under the pointer, as numbers. */
  inputsAt(event) {
    const box = this.over.getBoundingClientRect();
    const part = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
    const { surface, curve } = this.frame ?? {};
    const between = ([low, high], t) => low + (high - low) * t;
    if (surface) return [between(surface.x, part[0]), between(surface.y, part[1])];
    if (curve) return [between([curve.x[0], curve.x.at(-1)], part[0])];
    return null;
  }

  /** The answer that the picture holds at those inputs: as exact as the picture is. */
  answerAt(inputs) {
    const { surface, curve } = this.frame ?? {};
    if (surface) {
      const column = Math.min(surface.width - 1, Math.floor((inputs[0] - surface.x[0]) / (surface.x[1] - surface.x[0]) * surface.width));
      const row = Math.min(surface.height - 1, Math.floor((surface.y[1] - inputs[1]) / (surface.y[1] - surface.y[0]) * surface.height));
      return decode(surface.values)[row * surface.width + column] / 127 * surface.scale;
    }
    const at = curve.x.findIndex((x) => x >= inputs[0]);
    return curve.y[at < 0 ? curve.y.length - 1 : at];
  }
}
