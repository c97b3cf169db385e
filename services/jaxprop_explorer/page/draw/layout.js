// Where the units of a network stand: a column a layer. Few units are drawn as tiles, many as a grid of small cells,
// and an input that is an image as that image, so that no network is too large to be looked at.

const TILES = 16; // up to so many units a column is drawn as tiles
const CELL = 12; // size of a cell in a grid
const ROWS = 20;

/** {height, columns: [{kind, x, left, right, size, rows, columns, units: [{x, y}]}]} for a drawing `width` wide. */
export function layout(frame, width) {
  const counts = [frame.inputs.values.length, ...frame.layers.map((layer) => layer.units)];
  const largest = Math.max(...counts.filter((n) => n <= TILES), 1);
  const pitch = largest <= 5 ? 68 : largest <= 7 ? 56 : largest <= 10 ? 45 : 28;
  const size = Math.min(pitch < 40 ? 22 : pitch - 18, width / counts.length > 90 ? 44 : 34);
  const shapes = counts.map((n, k) => shape(n, k === 0, size, width));
  const height = Math.max(280, ...shapes.map((s) => (s.kind === "tiles" ? s.count * pitch : s.height + 24))) + 8;
  const first = shapes[0].width / 2 + (width > 500 ? 44 : 24);
  const last = width - shapes.at(-1).width / 2 - (width > 500 ? 44 : 34);
  const columns = shapes.map((s, k) => {
    const x = counts.length === 1 ? width / 2 : first + (last - first) * (k / (counts.length - 1));
    return { ...s, x, left: x - s.width / 2, right: x + s.width / 2, units: places(s, x, height / 2, pitch) };
  });
  return { width, height, columns, size, dense: pitch < 40 };
}

function shape(count, isInput, size, width) {
  if (count <= TILES) return { kind: "tiles", count, size, width: size, height: count * size };
  const side = Math.round(Math.sqrt(count));
  if (isInput && side * side === count) {
    const cell = Math.max(3, Math.floor(Math.min(196, width * 0.3) / side));
    return { kind: "image", count, size: cell, rows: side, columns: side, width: side * cell, height: side * cell };
  }
  const rows = Math.min(count, ROWS);
  const columns = Math.ceil(count / rows);
  const cell = Math.min(CELL, Math.max(4, Math.floor((width * 0.2) / columns)));
  return { kind: "grid", count, size: cell, rows, columns, width: columns * cell, height: rows * cell };
}

function places(s, x, middle, pitch) {
  return Array.from({ length: s.count }, (_, k) => {
    if (s.kind === "tiles") return { x, y: middle + (k - (s.count - 1) / 2) * pitch };
    const column = s.kind === "image" ? k % s.columns : Math.floor(k / s.rows);
    const row = s.kind === "image" ? Math.floor(k / s.columns) : k % s.rows;
    return { x: x - s.width / 2 + (column + 0.5) * s.size, y: middle - s.height / 2 + (row + 0.5) * s.size };
  });
}

/** The two ends of the edge from unit i of column k to unit j of column k + 1. */
export function ends(place, k, i, j) {
  const from = place.columns[k];
  const to = place.columns[k + 1];
  const a = from.units[i];
  const b = to.units[j];
  const half = (column) => (column.kind === "tiles" ? column.size / 2 + 1 : 0);
  return [a.x + half(from), a.y, b.x - half(to), b.y];
}

/** The curve of an edge as SVG writes it. */
export function curve([x0, y0, x1, y1]) {
  const middle = (x0 + x1) / 2;
  return (
    `M${x0.toFixed(1)} ${y0.toFixed(1)}C${middle.toFixed(1)} ${y0.toFixed(1)} ${middle.toFixed(1)} ${y1.toFixed(1)} ` +
    `${x1.toFixed(1)} ${y1.toFixed(1)}`
  );
}

/** The point at `t` in [0, 1] of that curve. */
export function along([x0, y0, x1, y1], t) {
  const s = t * t * (3 - 2 * t);
  const middle = (x0 + x1) / 2;
  const u = 1 - t;
  return [u * u * u * x0 + 3 * u * t * middle + t * t * t * x1, y0 + (y1 - y0) * s];
}

/** The height of the curve where it crosses `x`, or null outside it. */
export function crossing(edge, x) {
  if (x < edge[0] || x > edge[2]) return null;
  let [low, high] = [0, 1];
  for (let k = 0; k < 12; k += 1) {
    const t = (low + high) / 2;
    if (along(edge, t)[0] < x) low = t;
    else high = t;
  }
  return along(edge, low)[1];
}
