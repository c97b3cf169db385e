// The drawing of a network: weights as curves (colour, width and dash), units as tiles with their heat map. Every
// weight and unit is an element of its own that the keyboard reaches; a new frame changes only what differs.

import { columnName, inputName, label, number, startName, unitName } from "./format.js";
import { paint, paintNumbers } from "./heat.js";
import { crossing, curve, ends, along, layout } from "./layout.js";

const SVG = "http://www.w3.org/2000/svg";
const LABELLED = 36; // with more edges than this, numbers on them could not be read
// Along an edge, where its number may stand.
const PLACES = [0.5, 0.36, 0.64, 0.24, 0.76, 0.43, 0.57, 0.3, 0.7, 0.17, 0.83];

function make(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The entries of a weight matrix that the frame holds, as [[i, j, value]]; all of them, or the largest. */
export function entries(matrix) {
  if (!matrix) return [];
  if (matrix.largest) return matrix.largest;
  const columns = matrix.shape[1];
  return (matrix.values ?? []).map((value, k) => [Math.floor(k / columns), k % columns, value]);
}

/** The value at [i, j], or null where the frame does not tell it. */
export function entry(matrix, i, j) {
  if (!matrix) return null;
  if (matrix.values) return matrix.values[i * matrix.shape[1] + j];
  return matrix.largest?.find(([k, l]) => k === i && l === j)?.[2] ?? null;
}

export class NetworkDrawing {
  /** `on.point(item or null)` when something is pointed at or focused, `on.choose(item)` when it is clicked or
   * entered, `on.resize()` when it has another width and is to be drawn again. */
  constructor(element, on) {
    this.on = on;
    this.element = element;
    element.classList.add("net");
    this.nodes = make("div", "net-nodes", element);
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("class", "net-edges");
    this.svg.setAttribute("role", "group");
    this.svg.setAttribute("aria-label", "Weights");
    element.append(this.svg);
    this.halos = { chosen: this.halo("halo halo-chosen"), lit: this.halo("halo halo-lit") };
    this.curves = document.createElementNS(SVG, "g");
    this.numbers = document.createElementNS(SVG, "g");
    this.numbers.setAttribute("aria-hidden", "true");
    this.svg.append(this.halos.chosen, this.halos.lit, this.curves, this.numbers);
    this.flow = make("canvas", "net-flow", element);
    this.flow.setAttribute("aria-hidden", "true");
    this.cursor = { column: 1, unit: 0 };
    this.key = "";
    this.view = { direction: "forward", labels: false, selected: null, reached: null };
    this.listen();
    new ResizeObserver(() => {
      if (this.frame && this.element.clientWidth) this.on.resize();
    }).observe(element);
  }

  /** Draws `frame`; `view` changes what is shown of it: direction, labels, selected, reached (columns that a slow
   * pass reached). */
  update(frame, view = {}) {
    Object.assign(this.view, view);
    this.frame = frame;
    const width = this.element.clientWidth || 600;
    const key = [width, frame.inputs.values.length, ...frame.layers.map((layer) => layer.units)].join();
    if (key !== this.key) this.build(frame, width, key);
    this.drawNodes();
    this.drawEdges();
    this.rove();
  }

  halo(className) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", className);
    path.setAttribute("aria-hidden", "true");
    return path;
  }

  build(frame, width, key) {
    this.key = key;
    this.place = layout(frame, width);
    this.element.style.height = `${this.place.height}px`;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.place.height}`);
    this.element.classList.toggle("dense", this.place.dense);
    this.nodes.replaceChildren();
    this.curves.replaceChildren();
    this.edges = [];
    this.columns = this.place.columns.map((column, k) =>
      column.kind === "tiles" ? this.tiles(column, k) : this.grid(column, k),
    );
    const counts = this.place.columns.map((column) => column.count);
    this.cursor.column = Math.min(this.cursor.column, counts.length - 1);
    this.cursor.unit = Math.min(this.cursor.unit, counts[this.cursor.column] - 1);
    this.cursor.edge = null;
  }

  tiles(column, k) {
    return column.units.map((at, unit) => {
      const tile = make("button", "tile", this.nodes);
      tile.type = "button";
      tile.tabIndex = -1;
      tile.item = { column: k, unit };
      tile.dataset.end = k === 0 ? "first" : k === this.place.columns.length - 1 ? "last" : "";
      tile.style.left = `${at.x - column.size / 2}px`;
      tile.style.top = `${at.y - column.size / 2}px`;
      tile.style.width = tile.style.height = `${column.size}px`;
      const canvas = make("canvas", "pixels", tile);
      const name = make("span", "tile-name", tile);
      const value = make("span", "tile-value", tile);
      const bias = k > 0 ? make("span", "tile-bias", tile) : null;
      return { tile, canvas, name, value, bias };
    });
  }

  grid(column, k) {
    const tile = make("button", `tile tile-${column.kind}`, this.nodes);
    tile.type = "button";
    tile.tabIndex = -1;
    tile.item = { column: k, unit: 0 };
    tile.style.left = `${column.left}px`;
    tile.style.top = `${column.units[0].y - column.size / 2}px`;
    tile.style.width = `${column.width}px`;
    tile.style.height = `${column.height}px`;
    const canvas = make("canvas", "pixels", tile);
    const mark = make("span", "tile-mark", tile);
    mark.style.width = mark.style.height = `${column.size}px`;
    return { tile, canvas, mark, column };
  }

  // ---------------------------------------------------------------- units

  drawNodes() {
    const { frame } = this;
    const heat = new Map((frame.heat?.units ?? []).map(([layer, unit, values]) => [`${layer},${unit}`, values]));
    this.place.columns.forEach((column, k) => {
      const values = k === 0 ? frame.inputs.values : frame.layers[k - 1].a;
      const scale = Math.max(1e-12, ...(values ?? []).map(Math.abs));
      if (column.kind !== "tiles") this.drawGrid(k, values ?? [], scale);
      else column.units.forEach((_, unit) => this.drawTile(k, unit, heat.get(`${k - 1},${unit}`), values, scale));
    });
  }

  drawTile(k, unit, heat, values, scale) {
    const { frame, view } = this;
    const part = this.columns[k][unit];
    if (heat) paint(part.canvas, frame.heat.width, frame.heat.height, heat);
    else paintNumbers(part.canvas, 1, 1, [values?.[unit] ?? 0], scale);
    const back = view.direction === "backward";
    const delta = k > 0 ? (frame.layers[k - 1].delta?.[unit] ?? null) : null;
    const hidden = view.reached && !view.reached.has(k);
    const shown = back && k > 0 ? delta : values?.[unit];
    const sign =
      back && k > 0 && !hidden && delta !== null ? (delta > 0 ? "plus" : delta < 0 ? "minus" : "zero") : "none";
    set(part.tile, "data-delta", sign);
    set(part.tile, "data-chosen", String(this.isChosen(k, unit)));
    set(part.tile, "data-waiting", String(Boolean(hidden)));
    write(
      part.name,
      k === 0 || (k === frame.layers.length && frame.layers[k - 1].units > 1) ? this.shortName(k, unit) : "",
    );
    write(
      part.value,
      hidden
        ? "…"
        : view.labels || view.reached || back
          ? shown === null
            ? "δ –"
            : `${back && k > 0 ? "δ " : ""}${label(shown)}`
          : "",
    );
    if (part.bias) {
      const bias = frame.layers[k - 1].b?.[unit];
      set(part.bias, "data-sign", bias === undefined || bias === null ? "none" : bias < 0 ? "minus" : "plus");
    }
    if (!frame.playing) set(part.tile, "aria-label", this.describe({ column: k, unit }));
  }

  drawGrid(k, values, scale) {
    const { tile, canvas, mark, column } = this.columns[k];
    const back = this.view.direction === "backward" && k > 0;
    const hidden = this.view.reached && !this.view.reached.has(k);
    const shown = hidden ? [] : back ? (this.frame.layers[k - 1].delta ?? []) : values;
    const most = back ? Math.max(1e-12, ...shown.map(Math.abs)) : scale;
    const ordered = new Array(column.rows * column.columns).fill(0);
    shown.forEach((value, n) => {
      const at = column.kind === "image" ? n : (n % column.rows) * column.columns + Math.floor(n / column.rows);
      ordered[at] = value;
    });
    paintNumbers(canvas, column.columns, column.rows, ordered, most);
    const unit = this.cursor.column === k ? this.cursor.unit : 0;
    const at = column.units[unit];
    mark.style.left = `${at.x - column.left - column.size / 2}px`;
    mark.style.top = `${at.y - parseFloat(tile.style.top) - column.size / 2}px`;
    if (!this.frame.playing) set(tile, "aria-label", this.describe({ column: k, unit: tile.item.unit }));
  }

  shortName(k, unit) {
    if (k === 0) return inputName(this.frame, unit);
    return this.frame.output_names?.[unit] ?? String(unit);
  }

  // ---------------------------------------------------------------- edges

  drawEdges() {
    const { frame, view } = this;
    const back = view.direction === "backward";
    const wanted = [];
    let most = back ? 1e-12 : 0.5;
    frame.layers.forEach((layer, n) => {
      if (layer.W?.shape[0] !== this.place.columns[n].count) return; // another layer stands between the two columns
      const shown = back ? (layer.dW ?? null) : layer.W;
      for (const [i, j, value] of entries(shown ?? layer.W)) {
        if (this.place.columns[n].units[i] === undefined || this.place.columns[n + 1].units[j] === undefined) continue;
        const told = shown === null || shown === undefined ? null : value;
        if (told !== null) most = Math.max(most, Math.abs(told));
        wanted.push([n, i, j, told]);
      }
    });
    const widest = wanted.length <= 60 ? 5 : wanted.length <= 300 ? 4 : 2.5;
    while (this.edges.length < wanted.length) this.edges.push(this.newEdge());
    while (this.edges.length > wanted.length) this.edges.pop().remove();
    wanted.forEach(([n, i, j, value], k) => this.drawEdge(this.edges[k], n, i, j, value, most, widest));
    this.svg.classList.toggle("many", wanted.length > 120);
    this.svg.classList.toggle("crowd", wanted.length > 400);
    const chosen = this.edges.find(({ item }) => this.isChosenEdge(item.layer, item.i, item.j));
    set(this.halos.chosen, "d", chosen ? curve(chosen.ends) : "");
    this.drawNumbers(wanted);
  }

  newEdge() {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("tabindex", "-1");
    path.setAttribute("role", "button");
    this.curves.append(path);
    return path;
  }

  drawEdge(path, n, i, j, value, most, widest) {
    const { view, frame } = this;
    const item = path.item;
    if (!item || item.layer !== n || item.i !== i || item.j !== j || path.key !== this.key) {
      path.item = { layer: n, i, j };
      path.key = this.key;
      path.ends = ends(this.place, n, i, j);
      path.setAttribute("d", curve(path.ends));
      set(path, "data-path", `${frame.layers[n].path}.W`);
      set(path, "data-index", `${i},${j}`);
    }
    const waiting = view.reached && view.direction === "backward" && !view.reached.has(n + 1);
    const kind = value === null || waiting ? "unknown" : value === 0 ? "zero" : value < 0 ? "minus" : "plus";
    const chosen = this.isChosenEdge(n, i, j);
    const width =
      kind === "unknown" || kind === "zero" ? 1 : 0.5 + (widest - 0.5) * Math.min(1, Math.abs(value) / most);
    const look = `${kind}${chosen ? " chosen" : ""} ${width.toFixed(1)}`;
    if (look !== path.look) {
      // a thousand edges ten times a second: what is there is not read back from the page
      path.look = look;
      path.setAttribute("class", `edge ${kind}${chosen ? " chosen" : ""}${path === this.lit ? " lit" : ""}`);
      path.setAttribute("stroke-width", width.toFixed(1));
    }
    if (!frame.playing) set(path, "aria-label", this.describe(path.item));
  }

  drawNumbers(wanted) {
    if (this.numbers.children.length !== wanted.length) this.spread = null;
    const [first, second] = this.place.columns;
    const room = second ? second.left - first.right : 0;
    const shown = this.view.labels && wanted.length <= LABELLED && room > 60 ? wanted : [];
    while (this.numbers.children.length < shown.length) this.numbers.append(document.createElementNS(SVG, "text"));
    while (this.numbers.children.length > shown.length) this.numbers.lastChild.remove();
    if (shown.length > 0 && this.spread !== this.key) this.spreadNumbers();
    shown.forEach(([, , , value], k) => write(this.numbers.children[k], label(value)));
  }

  /** Finds a place for the number of every edge: on its curve, and where no other number stands already. */
  spreadNumbers() {
    this.spread = this.key;
    const taken = [];
    this.edges.forEach(({ ends: edge }, k) => {
      const free = PLACES.map((t) => along(edge, t)).find(([x, y]) =>
        taken.every(([a, b]) => Math.abs(a - x) > 38 || Math.abs(b - y) > 12),
      );
      const text = this.numbers.children[k];
      text.toggleAttribute("hidden", !free);
      if (!free) return;
      taken.push(free);
      set(text, "x", free[0].toFixed(1));
      set(text, "y", (free[1] + 4).toFixed(1));
    });
  }

  // ---------------------------------------------------------------- what is chosen, and in words

  isChosen(column, unit) {
    const chosen = this.view.selected;
    if (!chosen) return false;
    if (column === 0) return chosen.path === "x" && chosen.index.at(-1) === unit;
    const path = this.frame.layers[column - 1].path;
    return (chosen.path === path || chosen.path === `${path}.b`) && chosen.index.at(-1) === unit;
  }

  isChosenEdge(layer, i, j) {
    const chosen = this.view.selected;
    return (
      Boolean(chosen) &&
      chosen.path === `${this.frame.layers[layer].path}.W` &&
      chosen.index[0] === i &&
      chosen.index[1] === j
    );
  }

  /** A sentence with the numbers of a weight ({layer, i, j}) or a unit ({column, unit}). */
  describe(item) {
    const { frame } = this;
    if (item.layer !== undefined) {
      const layer = frame.layers[item.layer];
      const from = startName(frame, item.layer, item.i);
      return (
        `weight from ${from} to ${unitName(frame, item.layer + 1, item.j)}: ` +
        `${number(entry(layer.W, item.i, item.j))}, derivative ${number(entry(layer.dW, item.i, item.j))}`
      );
    }
    const name = unitName(frame, item.column, item.unit);
    if (item.column === 0) return `${name}: ${number(frame.inputs.values[item.unit])}`;
    const layer = frame.layers[item.column - 1];
    return (
      `${name}: z ${number(layer.z?.[item.unit])}, activation ${number(layer.a?.[item.unit])}, ` +
      `δ ${number(layer.delta?.[item.unit])}`
    );
  }

  /** What the whole drawing shows, for its label. */
  summary() {
    const counts = [this.frame.inputs.values.length, ...this.frame.layers.map((layer) => layer.units)];
    const names = counts.map((n, k) => `${n} ${columnName(this.frame, k)}`);
    return `Network: ${names.join(", ")}. Arrow keys move over its units and weights, Enter chooses one.`;
  }

  // ---------------------------------------------------------------- pointer and keyboard

  listen() {
    const { element } = this;
    element.setAttribute("role", "group");
    element.addEventListener("pointermove", (event) => this.on.point(this.under(event)));
    element.addEventListener("pointerleave", () => this.on.point(null));
    element.addEventListener("click", (event) =>
      this.choose(event.detail === 0 ? event.target.closest(".tile, .edge")?.item : this.under(event)),
    );
    element.addEventListener("focusin", (event) => this.focused(event.target.closest(".tile, .edge")));
    element.addEventListener("focusout", () => this.on.point(null));
    element.addEventListener("keydown", (event) => this.keyed(event));
  }

  /** The weight or unit under the pointer; a weight also when the pointer is within a few pixels of it. */
  under(event) {
    const box = this.element.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    if (event.target.classList?.contains("tile-bias")) return { ...event.target.closest(".tile").item, bias: true };
    const tile = event.target.closest(".tile");
    if (tile) {
      const column = this.place.columns[tile.item.column];
      if (column.kind === "tiles") return tile.item;
      const near = (at) => Math.abs(at.x - x) <= column.size / 2 && Math.abs(at.y - y) <= column.size / 2;
      const unit = column.units.findIndex(near);
      return { column: tile.item.column, unit: Math.max(0, unit) };
    }
    let [best, least] = [event.target.closest(".edge")?.item ?? null, 9];
    for (const path of this.edges ?? []) {
      const height = crossing(path.ends, x);
      if (height !== null && Math.abs(height - y) < least) [best, least] = [path.item, Math.abs(height - y)];
    }
    return best;
  }

  choose(item) {
    if (item) this.on.choose(item);
  }

  focused(element) {
    if (!element) return;
    set(element, "aria-label", this.describe(element.item));
    this.cursor =
      element.item.layer !== undefined ? { ...this.cursor, edge: element.item } : { ...element.item, edge: null };
    this.rove();
    this.on.point(element.item);
  }

  /** Exactly one unit or weight can be reached by Tab: the one where the keyboard was last. */
  rove() {
    const now = this.at(this.cursor.edge ?? this.cursor);
    if (this.tabbed === now) return;
    if (this.tabbed) this.tabbed.setAttribute("tabindex", "-1");
    if (now) now.setAttribute("tabindex", "0");
    this.tabbed = now;
  }

  at(item) {
    if (item.layer !== undefined) {
      const found = this.edges.find(({ item: e }) => e.layer === item.layer && e.i === item.i && e.j === item.j);
      if (found) return found;
      return this.at({ column: item.layer + 1, unit: item.j });
    }
    const column = this.columns[item.column];
    return Array.isArray(column) ? column[item.unit].tile : column.tile;
  }

  go(item) {
    const element = this.at(item);
    if (!element) return;
    if (item.column !== undefined) {
      element.item = { column: item.column, unit: item.unit };
      if (!Array.isArray(this.columns[item.column])) {
        this.cursor = { ...element.item, edge: null };
        this.drawNodes();
      }
    }
    if (document.activeElement === element) this.focused(element);
    else element.focus({ preventScroll: false });
  }

  keyed(event) {
    const element = event.target.closest(".tile, .edge");
    if (!element || event.ctrlKey || event.metaKey || event.altKey) return;
    const next =
      element.item.layer !== undefined
        ? this.fromEdge(element.item, event.key)
        : this.fromUnit(element.item, event.key);
    if (next) this.go(next);
    else if (event.key === "Enter" || event.key === " ") this.choose(element.item);
    else if (event.key === "b" && element.item.column > 0) this.choose({ ...element.item, bias: true });
    else return;
    event.preventDefault();
  }

  fromUnit({ column, unit }, key) {
    const count = this.place.columns[column].count;
    const edges = (test) => this.edges.map((e) => e.item).find(test);
    if (key === "ArrowDown") return { column, unit: (unit + 1) % count };
    if (key === "ArrowUp") return { column, unit: (unit + count - 1) % count };
    if (key === "ArrowRight") return edges((e) => e.layer === column && e.i === unit) ?? this.beside(column + 1, unit);
    if (key === "ArrowLeft")
      return edges((e) => e.layer === column - 1 && e.j === unit) ?? this.beside(column - 1, unit);
    if (key === "Home") return { column: 0, unit: 0 };
    if (key === "End") return { column: this.columns.length - 1, unit: 0 };
    return null;
  }

  beside(column, unit) {
    const found = this.place.columns[column];
    return found ? { column, unit: Math.min(unit, found.count - 1) } : null;
  }

  fromEdge({ layer, i, j }, key) {
    if (key === "ArrowLeft") return { column: layer, unit: i };
    if (key === "ArrowRight") return { column: layer + 1, unit: j };
    const all = this.edges.map((e) => e.item).filter((e) => e.layer === layer);
    const here = all.findIndex((e) => e.i === i && e.j === j);
    if (key === "ArrowDown") return all[(here + 1) % all.length];
    if (key === "ArrowUp") return all[(here + all.length - 1) % all.length];
    if (key === "Home") return { column: 0, unit: 0 };
    if (key === "End") return { column: this.columns.length - 1, unit: 0 };
    return null;
  }

  /** The two ends of a weight in this drawing. */
  endsOf(n, i, j) {
    return ends(this.place, n, i, j);
  }

  /** Shows which weight or unit is pointed at. */
  highlight(item) {
    if (this.lit) this.lit.classList.remove("lit");
    this.lit = item ? this.at(item) : null;
    if (this.lit) this.lit.classList.add("lit");
    set(this.halos.lit, "d", item && item.layer !== undefined ? curve(this.endsOf(item.layer, item.i, item.j)) : "");
  }
}
