// A pass in slow motion: dots carry numbers along the weights, column by column. Forward they carry w · a, backward
// w · δ. Who prefers no motion sees the end of each stage, and goes on with Next.

import { entries } from "./network.js";
import { along } from "./layout.js";

const STAGE = 1600; // milliseconds a stage takes at speed 1
const CARRIED = 160; // the most dots of one stage

const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Flow {
  /** `tell({direction, stage, of, column, reached, running})` after every stage; reached is null when the pass is
   * over. */
  constructor(drawing, tell) {
    this.drawing = drawing;
    this.tell = tell;
    this.speed = 1;
    this.running = false;
    this.pass = null;
  }

  /** Begin a pass over `frame`; with motion it runs, without it waits for Next. */
  begin(frame, direction) {
    const count = frame.layers.length;
    const columns = [...Array(count).keys()].map((k) => k + 1);
    this.pass = {
      frame,
      direction,
      stage: 0,
      columns: direction === "forward" ? columns : columns.reverse(),
      part: 0,
    };
    this.pass.reached = new Set(direction === "forward" ? [0] : []);
    this.report();
    if (!still.matches) this.run();
  }

  end() {
    this.stop();
    this.pass = null;
    this.clear();
  }

  run() {
    if (!this.pass || this.running) return;
    this.running = true;
    this.last = null;
    this.request = requestAnimationFrame((now) => this.tick(now));
    this.report();
  }

  stop() {
    cancelAnimationFrame(this.request);
    this.running = false;
  }

  pause() {
    this.stop();
    this.report();
  }

  /** Go to the end of this stage at once. */
  next() {
    if (!this.pass) return;
    this.advance();
  }

  tick(now) {
    if (!this.running || !this.pass) return;
    const passed = this.last === null ? 0 : Math.min(100, now - this.last);
    this.last = now;
    this.pass.part += (passed * this.speed) / STAGE;
    if (this.pass.part >= 1) this.advance();
    if (!this.pass) return;
    this.draw();
    this.request = requestAnimationFrame((next) => this.tick(next));
  }

  advance() {
    const { pass } = this;
    pass.reached.add(pass.columns[pass.stage]);
    pass.stage += 1;
    pass.part = 0;
    this.dots = null;
    if (pass.stage === pass.columns.length) {
      const { direction } = pass;
      this.end();
      this.tell({ direction, reached: null, running: false, column: direction === "forward" ? "last" : "first" });
    } else this.report();
  }

  report() {
    const { pass } = this;
    if (!pass) return;
    this.tell({
      direction: pass.direction,
      stage: pass.stage,
      of: pass.columns.length,
      column: pass.columns[pass.stage - 1] ?? null,
      next: pass.columns[pass.stage],
      reached: new Set(pass.reached),
      running: this.running,
    });
  }

  /** The dots of this stage: [edge, size in (0, 1], positive]. Their sizes only are made here, no number that is
   * shown. */
  carried() {
    const { frame, direction, columns, stage } = this.pass;
    const column = columns[stage];
    const n = direction === "forward" ? column - 1 : column;
    const layer = frame.layers[n];
    if (!layer || layer.W?.shape[0] !== this.drawing.place.columns[n].count) return [];
    const from = n === 0 ? frame.inputs.values : frame.layers[n - 1].a;
    const amount = ([i, j, w]) => w * (direction === "forward" ? (from?.[i] ?? 0) : (layer.delta?.[j] ?? 0));
    const all = entries(layer.W)
      .map((e) => [e, amount(e)])
      .filter(([, v]) => v !== 0 && Number.isFinite(v));
    all.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
    const most = Math.abs(all[0]?.[1] ?? 1);
    return all
      .slice(0, CARRIED)
      .map(([[i, j], v]) => [this.drawing.endsOf(n, i, j), Math.sqrt(Math.abs(v) / most), v > 0]);
  }

  draw() {
    const { canvas, context } = this.surface();
    this.dots ??= this.carried();
    const style = getComputedStyle(document.documentElement);
    const [plus, minus] = ["--positive", "--negative"].map((name) => style.getPropertyValue(name));
    context.clearRect(0, 0, canvas.width, canvas.height);
    const t = this.pass.part * this.pass.part * (3 - 2 * this.pass.part);
    for (const [edge, size, positive] of this.dots) {
      for (let tail = 0; tail < 4; tail += 1) {
        const at = t - tail * 0.03;
        if (at < 0) continue;
        const [x, y] = along(edge, this.pass.direction === "forward" ? at : 1 - at);
        context.globalAlpha = 1 - tail * 0.26;
        context.fillStyle = positive ? plus : minus;
        context.beginPath();
        context.arc(x, y, (1.5 + 4 * size) * (1 - tail * 0.15), 0, 2 * Math.PI);
        context.fill();
      }
    }
    context.globalAlpha = 1;
  }

  surface() {
    const canvas = this.drawing.flow;
    const { width, height } = this.drawing.place;
    const dense = Math.min(2, devicePixelRatio || 1);
    if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
      canvas.width = Math.round(width * dense);
      canvas.height = Math.round(height * dense);
    }
    const context = canvas.getContext("2d");
    context.setTransform(dense, 0, 0, dense, 0, 0);
    return { canvas, context };
  }

  clear() {
    this.dots = null;
    this.drawing.flow.getContext("2d").clearRect(0, 0, this.drawing.flow.width, this.drawing.flow.height);
  }
}
