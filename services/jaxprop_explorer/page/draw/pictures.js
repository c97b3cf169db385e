// Arrays as pictures: maps, matrices and strips of cells, whose numbers come from the server and are read under the
// pointer or with the arrow keys. Nothing is computed here but colours and places.

import { make } from "./elements.js";
import { number } from "./format.js";
import { colour, onColours } from "./heat.js";

const ROW = 32; // cells of a strip in one line
const GAP = 1; // cells between maps

function floats(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k += 1) bytes[k] = text.charCodeAt(k);
  return new Float32Array(bytes.buffer);
}

/** One array: its name and shape, the cells, the number that is pointed at, and its pages. */
export class Picture {
  /** `choose(picture, index)` when a cell is chosen; `turn(what, page)` promises another page. */
  constructor(given, { choose, turn }) {
    this.choose = choose;
    this.turn = turn;
    this.canvas = make("canvas", { className: "pixels", tabIndex: 0 });
    this.canvas.setAttribute("role", "img");
    this.told = make("p", { className: "picture-told number" });
    this.told.setAttribute("aria-live", "polite");
    this.title = make("h4");
    this.scale = make("p", { className: "picture-scale number" });
    this.back = this.button("‹", "Page before", -1);
    this.on = this.button("›", "Next page", 1);
    this.paging = make("span", { className: "picture-pages number" });
    this.pages = make("div", { className: "picture-paging" }, this.back, this.paging, this.on);
    const caption = make("figcaption", {}, this.title, this.scale);
    this.element = make("figure", { className: "picture" }, caption, this.canvas, this.told, this.pages);
    this.listen();
    this.draw(given);
    this.recolour = () => {
      if (this.element.isConnected) this.paint();
    };
    onColours(this.recolour);
  }

  button(text, label, by) {
    const button = make("button", { type: "button", className: "small square quiet", textContent: text });
    button.setAttribute("aria-label", label);
    button.addEventListener("click", async () => {
      const page = await this.turn(this.given.what, this.given.page + by).catch(() => null);
      if (page) this.draw(page);
    });
    return button;
  }

  /** Draw an array, or another page or state of it. */
  draw(given) {
    this.given = given;
    this.values = floats(given.values);
    this.at ??= 0;
    if (this.at >= this.values.length) this.at = 0;
    this.element.dataset.what = given.what;
    this.element.dataset.kind = given.kind;
    this.title.textContent = given.shape.length ? `${given.name}  [${given.shape.join(", ")}]` : given.name;
    const held = given.every > 1 ? `, every ${given.every}th row and column` : "";
    const size = given.largest === 0 ? "all 0" : `up to ±${number(given.largest)}, RMS ${number(given.rms)}`;
    this.scale.textContent = size + held;
    this.pages.hidden = given.pages < 2;
    this.paging.textContent = `${given.page + 1} of ${given.pages}`;
    this.back.disabled = given.page === 0;
    this.on.disabled = given.page + 1 >= given.pages;
    this.canvas.dataset.choosable = String(Boolean(given.entry || ["y", "dy"].includes(given.what)));
    this.paint();
    this.tell();
  }

  /** How the cells lie: maps side by side, a matrix as it is, a strip in lines. */
  layout() {
    const {
      kind,
      size: [height, width],
      count,
    } = this.given;
    if (kind === "maps") {
      const across = Math.min(count, Math.max(1, Math.round(Math.sqrt((count * height) / width))));
      return { across, down: Math.ceil(count / across), height, width };
    }
    if (kind === "strip") return { across: 1, down: 1, height: Math.ceil(width / ROW), width: Math.min(width, ROW) };
    return { across: 1, down: 1, height, width };
  }

  paint() {
    const { across, down, height, width } = this.layout();
    const columns = across * (width + GAP) - GAP;
    const rows = down * (height + GAP) - GAP;
    Object.assign(this.canvas, { width: columns, height: rows });
    const cell = Math.max(1, Math.min(18, Math.floor(288 / Math.max(columns, rows * 0.75))));
    this.canvas.style.width = `${columns * cell}px`;
    this.canvas.style.height = this.given.kind === "strip" ? `${rows * 18}px` : "auto";
    const context = this.canvas.getContext("2d");
    this.values.forEach((value, k) => {
      const { x, y } = this.placeOf(k);
      context.fillStyle = Number.isFinite(value) ? colour(value / (this.given.largest || 1)) : "#d0021b";
      context.fillRect(x, y, 1, 1);
    });
  }

  placeOf(k) {
    const { across, height, width } = this.layout();
    const [map, within] = [Math.floor(k / (height * width)), k % (height * width)];
    if (this.given.kind !== "maps") return { x: k % width, y: Math.floor(k / width) };
    return {
      x: (map % across) * (width + GAP) + (within % width),
      y: Math.floor(map / across) * (height + GAP) + Math.floor(within / width),
    };
  }

  /** The cell at a place on the canvas, or −1. */
  cellAt(x, y) {
    const { across, height, width } = this.layout();
    if (this.given.kind !== "maps") {
      const k = y * width + x;
      return x >= 0 && x < width && k < this.values.length ? k : -1;
    }
    const [column, row] = [Math.floor(x / (width + GAP)), Math.floor(y / (height + GAP))];
    const [inX, inY] = [x % (width + GAP), y % (height + GAP)];
    const k = (row * across + column) * height * width + inY * width + inX;
    return inX < width && inY < height && k < this.values.length ? k : -1;
  }

  /** The index in the array of the k-th cell on this page. */
  indexOf(k) {
    const {
      kind,
      size: [height, width],
      first,
      every,
      shape,
      inner,
    } = this.given;
    if (kind === "strip") return shape.length ? [first[0] + k] : [];
    if (kind === "matrix") return [first[0] + Math.floor(k / width), first[1] + (k % width)];
    const within = k % (height * width);
    let rest = first[2] + Math.floor(k / (height * width));
    const beyond = [];
    for (const length of [...inner].reverse()) {
      beyond.unshift(rest % length);
      rest = Math.floor(rest / length);
    }
    return [Math.floor(within / width) * every, (within % width) * every, ...beyond];
  }

  tell() {
    const index = this.indexOf(this.at);
    const value = this.values[this.at];
    const said = this.given.whole ? String(value) : number(value, 5);
    const words = `${this.given.name}${index.length ? `[${index.join(", ")}]` : ""} = ${said}`;
    this.told.textContent = words;
    const axes = this.given.axes.length ? ` (${this.given.axes.join(", ")})` : "";
    const shape = this.given.shape.join(" by ") || "one number";
    this.canvas.setAttribute(
      "aria-label",
      `${this.given.name}, shape ${shape}${axes}, ` +
        `largest magnitude ${number(this.given.largest)}, root mean square ${number(this.given.rms)}. ${words}`,
    );
  }

  listen() {
    const { canvas } = this;
    const cell = (event) => {
      const box = canvas.getBoundingClientRect();
      const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
      const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
      return this.cellAt(x, y);
    };
    canvas.addEventListener("pointermove", (event) => {
      const k = cell(event);
      if (k >= 0) {
        this.at = k;
        this.tell();
      }
    });
    canvas.addEventListener("click", (event) => {
      const k = cell(event);
      if (k >= 0) {
        this.at = k;
        this.tell();
        this.take();
      }
    });
    canvas.addEventListener("keydown", (event) => {
      const { x, y } = this.placeOf(this.at);
      const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
      const [dx, dy] = ways[event.key] ?? [0, 0];
      if (event.key === "Enter") this.take();
      if (!dx && !dy) return;
      event.preventDefault();
      const next = [1, 1 + GAP].map((by) => this.cellAt(x + dx * by, y + dy * by)).find((k) => k >= 0);
      if (next !== undefined) {
        this.at = next;
        this.tell();
      }
    });
  }

  take() {
    if (this.canvas.dataset.choosable === "true") this.choose(this.given, this.indexOf(this.at));
  }
}
