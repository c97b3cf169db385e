// The surface from above: bands of equal height, contour lines, landmarks, the path and the ball, which can be dragged.
import { Ground, between, grasp, ramp } from "./ground.js";

const EDGE = { left: 72, right: 12, top: 12, bottom: 36 };

export class Contour {
  // `moved(x, y)` is told where the ball is dragged or pushed to.
  constructor(canvas, moved) {
    this.canvas = canvas;
    this.moved = moved;
    this.seen = null;
    this.ground = new Ground(canvas, (pen, width, height, color) => this.paint(pen, width, height, color));
    grasp(canvas, this);
  }

  show(seen) {
    if (this.heights !== seen.heights) this.bands = null;
    this.heights = seen.heights;
    this.seen = seen;
    this.ground.draw();
  }

  frame(width, height) {
    const side = Math.min(width - EDGE.left - EDGE.right, height - EDGE.top - EDGE.bottom);
    return { left: EDGE.left + (width - EDGE.left - EDGE.right - side) / 2, top: EDGE.top, side };
  }

  at(box, x, y) {
    const {
      x: [x0, x1],
      y: [y0, y1],
    } = this.seen;
    return [box.left + (box.side * (x - x0)) / (x1 - x0), box.top + box.side * (1 - (y - y0) / (y1 - y0))];
  }

  take(event) {
    if (!this.seen) return;
    this.held = true;
    this.canvas.setPointerCapture(event.pointerId);
    this.drag(event);
  }

  drop() {
    this.held = false;
  }

  drag(event) {
    if (!this.held) return;
    const bounds = this.canvas.getBoundingClientRect();
    const box = this.frame(bounds.width, bounds.height);
    const share = (value) => Math.min(Math.max(value / box.side, 0), 1);
    const {
      x: [x0, x1],
      y: [y0, y1],
    } = this.seen;
    const right = share(event.clientX - bounds.left - box.left);
    const up = 1 - share(event.clientY - bounds.top - box.top);
    this.moved(x0 + right * (x1 - x0), y0 + up * (y1 - y0));
  }

  push(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!way || !this.seen) return;
    event.preventDefault();
    const { ball, x, y } = this.seen;
    const step = event.shiftKey ? 0.1 : 0.0125;
    const clamp = (value, [low, high]) => Math.min(Math.max(value, low), high);
    this.moved(clamp(ball.x + way[0] * step * (x[1] - x[0]), x), clamp(ball.y + way[1] * step * (y[1] - y[0]), y));
  }

  paint(pen, width, height, color) {
    if (!this.seen) return;
    const box = this.frame(width, height);
    this.bands ??= bands(this.seen);
    pen.imageSmoothingEnabled = true;
    pen.drawImage(this.bands, box.left, box.top, box.side, box.side);
    axes(pen, this.seen, box, color);
    pen.save();
    pen.beginPath();
    pen.rect(box.left, box.top, box.side, box.side);
    pen.clip();
    lines(pen, this.seen, (x, y) => this.at(box, x, y));
    marks(pen, this.seen, (x, y) => this.at(box, x, y), color);
    pen.restore();
  }
}

// The heights as a small picture, each pixel the colour of its band.
function bands({ side, heights, levels }) {
  const fine = 4 * (side - 1) + 1;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = fine;
  const pen = canvas.getContext("2d");
  for (let row = 0; row < fine; row += 1) {
    for (let column = 0; column < fine; column += 1) {
      const [i, j] = [Math.min(Math.floor(column / 4), side - 2), Math.min(Math.floor(row / 4), side - 2)];
      const [s, t] = [column / 4 - i, row / 4 - j];
      const of = (a, b) => heights[b * side + a];
      const height =
        (1 - t) * ((1 - s) * of(i, j) + s * of(i + 1, j)) + t * ((1 - s) * of(i, j + 1) + s * of(i + 1, j + 1));
      const share = between(levels, height);
      pen.fillStyle = ramp(Math.floor(share * levels.length) / levels.length);
      pen.fillRect(column, fine - 1 - row, 1, 1);
    }
  }
  return canvas;
}

// The lines of equal height, by marching over the squares of the grid.
function lines(pen, { side, heights, levels, x, y }, at) {
  const place = (i, j) => at(x[0] + ((x[1] - x[0]) * i) / (side - 1), y[0] + ((y[1] - y[0]) * j) / (side - 1));
  pen.strokeStyle = "rgb(255 255 255 / 0.45)";
  pen.lineWidth = 0.7;
  pen.beginPath();
  for (const level of levels.slice(1, -1)) {
    for (let j = 0; j < side - 1; j += 1) {
      for (let i = 0; i < side - 1; i += 1) {
        const corners = [
          [i, j],
          [i + 1, j],
          [i + 1, j + 1],
          [i, j + 1],
        ];
        const crossed = [];
        corners.forEach(([a, b], k) => {
          const [c, d] = corners[(k + 1) % 4];
          const [one, other] = [heights[b * side + a], heights[d * side + c]];
          if (one < level === other < level) return;
          const share = (level - one) / (other - one);
          crossed.push(place(a + share * (c - a), b + share * (d - b)));
        });
        for (let k = 0; k + 1 < crossed.length; k += 2) {
          pen.moveTo(...crossed[k]);
          pen.lineTo(...crossed[k + 1]);
        }
      }
    }
  }
  pen.stroke();
}

// What stands on the surface, given where a place (x, y) lies in the picture: minima, saddle, path, way ahead, ball.
export function marks(pen, seen, at, color, over = (points) => points) {
  for (const branch of seen.minima) {
    line(
      pen,
      over(branch).map(([x, y]) => at(x, y)),
      "#ffffff",
      5,
    );
    line(
      pen,
      over(branch).map(([x, y]) => at(x, y)),
      "#b2431e",
      2.2,
    );
  }
  if (seen.saddle) cross(pen, at(...seen.saddle));
  const ahead = [seen.path.at(-1), ...seen.ahead];
  pen.setLineDash([3, 4]);
  line(
    pen,
    over(ahead).map(([x, y]) => at(x, y)),
    "#1d2330",
    1.4,
  );
  pen.setLineDash([]);
  line(
    pen,
    over(seen.path).map(([x, y]) => at(x, y)),
    "#ffffff",
    4,
  );
  line(
    pen,
    over(seen.path).map(([x, y]) => at(x, y)),
    "#1d2330",
    2,
  );
  for (const [x, y] of seen.path) dot(pen, at(x, y), 2.6, "#1d2330", "#ffffff", 0.8);
  dot(pen, at(seen.ball.x, seen.ball.y), 9, color.negative, "#ffffff", 2.5);
}

function line(pen, points, color, width) {
  pen.strokeStyle = color;
  pen.lineWidth = width;
  pen.lineJoin = "round";
  pen.beginPath();
  points.forEach(([x, y], k) => {
    if (k) pen.lineTo(bound(x), bound(y));
    else pen.moveTo(bound(x), bound(y));
  });
  pen.stroke();
}

// Far outside the picture a canvas cannot count.
function bound(value) {
  return Math.min(Math.max(value, -1e5), 1e5);
}

function dot(pen, [x, y], radius, fill, edge, width) {
  pen.beginPath();
  pen.arc(bound(x), bound(y), radius, 0, 2 * Math.PI);
  pen.fillStyle = fill;
  pen.fill();
  pen.strokeStyle = edge;
  pen.lineWidth = width;
  pen.stroke();
}

function cross(pen, [x, y]) {
  for (const [color, width] of [
    ["#ffffff", 6],
    ["#1d2330", 2.5],
  ]) {
    pen.strokeStyle = color;
    pen.lineWidth = width;
    pen.beginPath();
    for (const way of [-1, 1]) {
      pen.moveTo(x - 7, y - 7 * way);
      pen.lineTo(x + 7, y + 7 * way);
    }
    pen.stroke();
  }
}

function axes(pen, seen, box, color) {
  pen.fillStyle = color.ink;
  pen.strokeStyle = color.muted;
  pen.lineWidth = 1;
  pen.strokeRect(box.left, box.top, box.side, box.side);
  pen.font = "12px system-ui, sans-serif";
  const told = (value) => Number(value.toPrecision(2)).toString().replace("-", "−");
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    pen.textAlign = "center";
    pen.textBaseline = "top";
    const [right, down] = [box.left + share * box.side, box.top + box.side + 4];
    pen.fillText(told(seen.x[0] + share * (seen.x[1] - seen.x[0])), right, down);
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    pen.fillText(told(seen.y[0] + share * (seen.y[1] - seen.y[0])), box.left - 5, box.top + (1 - share) * box.side);
  }
  pen.textAlign = "center";
  pen.textBaseline = "bottom";
  pen.fillText(seen.names[0], box.left + box.side / 2, box.top + box.side + 34);
  pen.save();
  pen.translate(box.left - 70, box.top + box.side / 2);
  pen.rotate(-Math.PI / 2);
  pen.textBaseline = "top";
  pen.fillText(seen.names[1], 0, 0);
  pen.restore();
}
