// A pad to draw on with a mouse, a finger or a pen: it keeps strokes as points in the unit square, and the page
// under it never scrolls.

import { Ground, grasp } from "./ground.js";

const NEAR = 0.006; // a point nearer to the last one than this share of the pad is left out
const PEN = 2.6 / 28;

export class Pad {
  /** `drawn(strokes)` after every change that the reader made. */
  constructor(canvas, drawn) {
    this.canvas = canvas;
    this.drawn = drawn;
    this.strokes = [];
    this.ground = new Ground(canvas, (pen, width, height, color) => this.paint(pen, width, height, color));
    grasp(canvas, this);
  }

  set(strokes) {
    this.strokes = strokes.map((stroke) => stroke.map(([x, y]) => [x, y]));
    this.ground.draw();
  }

  /** Show a picture behind the strokes, or none. */
  show(picture) {
    this.picture = picture;
    this.ground.draw();
  }

  take(event) {
    if (event.button) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.stroke = [this.where(event)];
    this.strokes.push(this.stroke);
    this.changed();
  }

  drop() {
    this.stroke = null;
  }

  drag(event) {
    if (!this.stroke) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) {
      const [x, y] = this.where(one);
      const [a, b] = this.stroke.at(-1);
      if (Math.hypot(x - a, y - b) >= NEAR) this.stroke.push([x, y]);
    }
    this.changed();
  }

  where(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = (value, size) => Number(Math.min(Math.max(value / size, 0), 1).toFixed(3));
    return [share(event.clientX - box.left, box.width), share(event.clientY - box.top, box.height)];
  }

  changed() {
    this.ground.draw();
    this.drawn(this.strokes);
  }

  paint(pen, width, height, color) {
    if (this.picture) {
      pen.imageSmoothingEnabled = false;
      pen.drawImage(this.picture, 0, 0, width, height);
    }
    pen.strokeStyle = pen.fillStyle = color.ink;
    pen.lineWidth = PEN * width;
    pen.lineCap = pen.lineJoin = "round";
    for (const stroke of this.strokes) {
      const at = stroke.map(([x, y]) => [x * width, y * height]);
      pen.beginPath();
      pen.moveTo(...at[0]);
      if (at.length === 1) pen.lineTo(...at[0]);
      for (let k = 1; k < at.length; k += 1) {
        // bends at the points, passes through the middles
        const end = k === at.length - 1 ? at[k] : [(at[k][0] + at[k + 1][0]) / 2, (at[k][1] + at[k + 1][1]) / 2];
        pen.quadraticCurveTo(...at[k], ...end);
      }
      pen.stroke();
    }
  }
}
