// The surface from the side: a small projection of its grid, drawn from far to near; it turns by dragging or by arrow
// keys.
import { Ground, between, grasp, heightAt, inside, outline, ramp } from "./ground.js";
import { marks } from "./contour.js";

const REACH = 16; // pixels around the ball that count as the ball

export class Relief {
  // `moved(x, y)` is told where the ball is dragged to; a drag that begins elsewhere turns the surface.
  constructor(canvas, moved) {
    this.canvas = canvas;
    this.moved = moved;
    this.turn = -0.62;
    this.tilt = 0.62;
    this.seen = null;
    this.ground = new Ground(canvas, (pen, width, height, color) => this.paint(pen, width, height, color));
    grasp(canvas, this);
  }

  show(seen) {
    this.seen = seen;
    this.ground.draw();
  }

  // The projection for a size of the picture: a place (x, y) and its height as [right, down, nearness].
  project(width, height) {
    const {
      x: [x0, x1],
      y: [y0, y1],
      low,
      top,
    } = this.seen;
    const [cos, sin, up, flat] = [Math.cos(this.turn), Math.sin(this.turn), Math.cos(this.tilt), Math.sin(this.tilt)];
    const size = Math.min(0.6 * width, 0.66 * height);
    return (x, y, cost) => {
      const s = (x - x0) / (x1 - x0) - 0.5;
      const t = (y - y0) / (y1 - y0) - 0.5;
      const h = 0.62 * ((Math.min(cost, top) - low) / (top - low) - 0.5);
      const right = s * cos - t * sin;
      const back = s * sin + t * cos;
      return [width / 2 + size * right, height / 2 - size * (back * flat + h * up), -back * up + h * flat];
    };
  }

  take(event) {
    if (!this.seen) return;
    const [x, y] = this.where(event);
    const { clientWidth, clientHeight } = this.canvas;
    const ball = this.project(clientWidth, clientHeight)(this.seen.ball.x, this.seen.ball.y, this.seen.ball.cost);
    this.held = { x, y, ball: Math.hypot(ball[0] - x, ball[1] - y) < REACH };
    this.canvas.setPointerCapture(event.pointerId);
  }

  drop() {
    this.held = null;
  }

  drag(event) {
    if (!this.held) return;
    const [x, y] = this.where(event);
    if (this.held.ball) {
      this.moved(...this.under(x, y));
      return;
    }
    this.rotate((x - this.held.x) / 150, (y - this.held.y) / 150);
    Object.assign(this.held, { x, y });
  }

  push(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    this.rotate(0.12 * way[0], 0.12 * way[1]);
  }

  rotate(turn, tilt) {
    this.turn += turn;
    this.tilt = Math.min(Math.max(this.tilt + tilt, 0.08), 1.5);
    this.ground.draw();
  }

  where(event) {
    const bounds = this.canvas.getBoundingClientRect();
    return [event.clientX - bounds.left, event.clientY - bounds.top];
  }

  // The place of the surface that is seen at a point of the picture.
  under(right, down) {
    const { side, heights, x, y } = this.seen;
    const { clientWidth, clientHeight } = this.canvas;
    const at = this.project(clientWidth, clientHeight);
    let best = [Infinity];
    for (let j = 0; j < side; j += 1) {
      for (let i = 0; i < side; i += 1) {
        const place = [x[0] + ((x[1] - x[0]) * i) / (side - 1), y[0] + ((y[1] - y[0]) * j) / (side - 1)];
        const [a, b, near] = at(...place, heights[j * side + i]);
        const far = Math.hypot(a - right, b - down) - 2 * near; // of two that lie there, the nearer one
        if (far < best[0]) best = [far, place];
      }
    }
    return best[1];
  }

  paint(pen, width, height, color) {
    if (!this.seen) return;
    const at = this.project(width, height);
    this.floor(pen, at, color);
    this.sheet(pen, at);
    this.names(pen, at, color);
    const on = (x, y) => at(x, y, heightAt(this.seen, x, y));
    marks(pen, this.seen, on, color, (points) => this.over(points));
  }

  // A line between two places follows the surface, and ends where the picture does.
  over(points) {
    const found = points.slice(0, 1).filter((point) => inside(this.seen, point));
    for (let k = 1; k < points.length; k += 1) {
      if (!inside(this.seen, points[k - 1])) break;
      for (let part = 1; part <= 12; part += 1) {
        const point = [0, 1].map((i) => points[k - 1][i] + ((points[k][i] - points[k - 1][i]) * part) / 12);
        if (inside(this.seen, point)) found.push(point);
      }
    }
    return found;
  }

  sheet(pen, at) {
    const { side, heights, levels, x, y } = this.seen;
    const stride = side > 45 ? 2 : 1;
    const count = Math.floor((side - 1) / stride);
    const points = [];
    for (let j = 0; j <= count; j += 1) {
      for (let i = 0; i <= count; i += 1) {
        const [column, row] = [i * stride, j * stride];
        points.push(
          at(
            x[0] + ((x[1] - x[0]) * column) / (side - 1),
            y[0] + ((y[1] - y[0]) * row) / (side - 1),
            heights[row * side + column],
          ),
        );
      }
    }
    const order = (flip) => Array.from({ length: count }, (_, k) => (flip ? count - 1 - k : k));
    const columns = order(Math.sin(this.turn) > 0);
    const rows = order(Math.cos(this.turn) > 0);
    pen.lineWidth = 0.5;
    for (const j of rows) {
      for (const i of columns) {
        const corner = [
          j * (count + 1) + i,
          j * (count + 1) + i + 1,
          (j + 1) * (count + 1) + i + 1,
          (j + 1) * (count + 1) + i,
        ];
        const quad = corner.map((k) => points[k]);
        const middle = heights[j * stride * side + i * stride];
        const steep = quad[0][1] + quad[1][1] - quad[2][1] - quad[3][1];
        const color = ramp(between(levels, middle), 1.03 - Math.min(Math.max(steep / 160, -0.05), 0.16));
        pen.fillStyle = pen.strokeStyle = color;
        outline(pen, quad);
        pen.fill();
        pen.stroke();
        if (i % 4 === 0 || j % 4 === 0) this.mesh(pen, quad, i, j);
      }
    }
  }

  mesh(pen, quad, i, j) {
    pen.strokeStyle = "rgb(29 35 48 / 0.16)";
    pen.beginPath();
    if (i % 4 === 0) {
      pen.moveTo(quad[0][0], quad[0][1]);
      pen.lineTo(quad[3][0], quad[3][1]);
    }
    if (j % 4 === 0) {
      pen.moveTo(quad[0][0], quad[0][1]);
      pen.lineTo(quad[1][0], quad[1][1]);
    }
    pen.stroke();
  }

  floor(pen, at, color) {
    const { x, y, low } = this.seen;
    const corners = [
      [x[0], y[0]],
      [x[1], y[0]],
      [x[1], y[1]],
      [x[0], y[1]],
    ].map(([a, b]) => at(a, b, low));
    pen.strokeStyle = color.muted;
    pen.lineWidth = 0.8;
    outline(pen, corners);
    pen.stroke();
  }

  names(pen, at, color) {
    const { x, y, low, top, names } = this.seen;
    pen.strokeStyle = color.muted;
    pen.lineWidth = 0.8;
    pen.fillStyle = color.ink;
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    const near = Math.cos(this.turn) > 0 ? y[0] : y[1];
    const edge = Math.sin(this.turn) < 0 ? x[1] : x[0];
    const [a, b] = at((x[0] + x[1]) / 2, near + 0.12 * (near - (y[0] + y[1]) / 2), low);
    pen.fillText(names[0], a, b + 8);
    const [c, d] = at(edge + 0.12 * (edge - (x[0] + x[1]) / 2), (y[0] + y[1]) / 2, low);
    pen.fillText(names[1], c, d + 8);
    const [e, f] = at(x[0] + x[1] - edge, near, low);
    const [, g] = at(x[0] + x[1] - edge, near, top);
    pen.beginPath();
    pen.moveTo(e, f);
    pen.lineTo(e, g);
    pen.stroke();
    pen.fillText("C", e, g - 9);
  }
}
