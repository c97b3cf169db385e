// The model panel: any network, layer by layer. A layer opened shows what passes through it; a number of it, its
// derivation.

import { number } from "../draw/format.js";
import { Picture } from "../draw/pictures.js";

const LIVE = 400; // milliseconds between two looks at a network that is training

const MARKUP = `
<div class="panel-head"><h2 class="model-name">Your model</h2><p class="muted model-about"></p>
  <label class="field-inline model-others" hidden>Served model <select></select></label></div>
<p class="model-notes small muted"></p>
<div class="actions model-rows">
  <button type="button" class="small square" data-by="-1" aria-label="Row before">‹</button>
  <label class="field-inline">Row <input type="number" class="model-row" min="0" step="1" value="0"></label>
  <span class="muted number model-row-of"></span>
  <button type="button" class="small square" data-by="1" aria-label="Next row">›</button>
  <span class="number model-cost"></span>
</div>
<div class="model-bench">
  <div class="model-table">
    <p class="muted small" id="model-caption">Layers, in the order of the forward pass. RMS: the root mean square
    for this
      row.</p>
    <div class="scroll"><table class="numbers" aria-describedby="model-caption">
    <thead><tr><th scope="col">Layer</th><th scope="col">Path</th><th scope="col">Output</th>
      <th scope="col">Parameters</th>
      <th scope="col">RMS of y</th><th scope="col">RMS of ∂C/∂y</th></tr></thead><tbody></tbody></table></div>
    <div class="actions model-paging" hidden><button type="button" class="small" data-page="-1">Layers before</button>
      <span class="number muted"></span><button type="button" class="small" data-page="1">Next layers</button></div>
  </div>
  <div class="model-open" aria-live="off">
    <div class="model-head"><h3>No layer is open</h3><p class="muted small">Choose one in the table.</p>
      <label class="field-inline model-time" hidden>Time through the Repeat <select></select></label></div>
    <div class="model-pictures"></div>
  </div>
  <div class="model-number stack" tabindex="-1" hidden><div class="model-unit"></div>
    <div class="model-derivation prose" tabindex="0" role="region" aria-label="Derivation"></div></div>
</div>`;

export default {
  name: "model",
  title: "Your model",
  mount(element, app) {
    return new ModelPanel(element, app);
  },
};

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function cell(text, className = "") {
  return make("td", { textContent: text, className });
}

class ModelPanel {
  constructor(element, app) {
    this.app = app;
    element.append(...new DOMParser().parseFromString(MARKUP, "text/html").body.childNodes);
    this.find = (selector) => element.querySelector(selector);
    this.pictures = new Map();
    this.page = 0;
    this.listen(element);
    app.on("session", (opened) => this.begin(opened.frame));
    if (app.frame) this.begin(app.frame);
  }

  /** What the address keeps of this panel. */
  get state() {
    return this.app.state.model ?? {};
  }

  keep(changes) {
    this.app.setState({ model: { ...this.state, ...changes } });
  }

  async ask(command, body) {
    return this.app.ask(`model/${command}`, body);
  }

  listen(element) {
    const quietly = (action) => async (event) => {
      if (!this.about) return; // nothing is here yet that could be gone through
      try {
        await action(event);
      } catch {
        // The notice says why.
      }
    };
    for (const button of element.querySelectorAll("[data-by]")) {
      button.addEventListener(
        "click",
        quietly(() => this.look(this.about.example + Number(button.dataset.by))),
      );
    }
    for (const button of element.querySelectorAll("[data-page]")) {
      button.addEventListener(
        "click",
        quietly(() => this.table(this.page + Number(button.dataset.page))),
      );
    }
    this.find(".model-row").addEventListener(
      "change",
      quietly((event) => this.look(Number(event.target.value))),
    );
    const time = this.find(".model-time select");
    time.addEventListener(
      "change",
      quietly(() => this.open(this.path, Number(time.value))),
    );
    this.find(".model-others select").addEventListener(
      "change",
      quietly(async (event) => {
        this.app.setState(
          { served: event.target.value, model: {}, selected: null, steps: 0, history: undefined },
          true,
        );
        await this.app.open();
      }),
    );
  }

  // ---------------------------------------------------------------- the whole network

  /** Begin anew: another network may have been opened. */
  begin(frame) {
    this.known = null;
    this.path = undefined;
    this.pictures.clear();
    this.find(".model-pictures").replaceChildren();
    this.find(".model-number").hidden = true;
    const { name, others = [] } = frame.opened ?? {};
    const choice = this.find(".model-others");
    choice.hidden = others.length < 2;
    const options = others.map((one) => make("option", { value: one, textContent: one }));
    choice.querySelector("select").replaceChildren(...options);
    choice.querySelector("select").value = name;
    this.start();
  }

  async start() {
    try {
      this.told(await this.ask("about"));
      const { row } = this.state;
      if (row !== undefined && row !== this.about.example) this.told(await this.ask("example", { index: row }));
      await this.table(0);
      if (this.state.layer !== undefined) await this.open(String(this.state.layer), this.state.time ?? 0);
      await this.measure();
    } catch {
      // The notice says why.
    }
  }

  told(about) {
    this.about = about;
    this.find(".model-name").textContent = about.name;
    const count = `${about.parameters.toLocaleString("en")} parameters`;
    const parts = [count, `input [${about.input.join(", ")}]`, about.cost];
    this.find(".model-about").textContent = parts.join(" · ");
    this.find(".model-notes").textContent = about.notes.join(" ");
    Object.assign(this.find(".model-row"), { value: about.example, max: about.rows - 1 });
    this.find(".model-row-of").textContent = `of ${about.rows} (0 to ${about.rows - 1})`;
    this.find('[data-by="-1"]').disabled = about.example === 0;
    this.find('[data-by="1"]').disabled = about.example + 1 >= about.rows;
  }

  async look(index) {
    this.told(await this.ask("example", { index }));
    this.keep({ row: index });
    await this.again();
  }

  async table(page) {
    const found = await this.ask("table", { page });
    this.page = page;
    const rows = found.layers.map((layer) => this.row(layer));
    this.find("tbody").replaceChildren(...rows);
    const paging = this.find(".model-paging");
    paging.hidden = found.of <= found.a_page;
    const last = found.first + found.layers.length;
    paging.querySelector("span").textContent = `${found.first + 1} to ${last} of ${found.of}`;
    paging.querySelector('[data-page="-1"]').disabled = page === 0;
    paging.querySelector('[data-page="1"]').disabled = found.first + found.layers.length >= found.of;
    if (this.measured) this.sizes(this.measured);
    this.mark();
  }

  row(layer) {
    const row = document.createElement("tr");
    row.dataset.path = layer.path;
    const open = make("button", { type: "button", className: "quiet", textContent: layer.kind, title: layer.settings });
    open.addEventListener("click", () => this.open(layer.path, 0).catch(() => {}));
    const head = document.createElement("th");
    head.scope = "row";
    head.append(open);
    const times = layer.repeats > 1 ? ` × ${layer.repeats}` : "";
    row.append(
      head,
      cell(layer.path || "·", "path"),
      cell(`[${layer.output.join(", ")}]${times}`),
      cell(layer.parameters ? layer.parameters.toLocaleString("en") : "–"),
      cell("…", "size-y"),
      cell("…", "size-dy"),
    );
    return row;
  }

  async measure() {
    const found = await this.ask("measures");
    this.known = found.version;
    this.measured = found;
    this.sizes(found);
    const target = this.about.target ? ` · target: ${this.about.target}` : "";
    this.find(".model-cost").textContent = `C = ${number(found.cost, 5)}${target}`;
  }

  sizes({ layers }) {
    for (const row of this.find("tbody").rows) {
      const [y, dy] = layers[row.dataset.path] ?? [null, null];
      row.querySelector(".size-y").textContent = y === null ? "–" : number(y);
      row.querySelector(".size-dy").textContent = dy === null ? "–" : number(dy);
    }
  }

  mark() {
    for (const row of this.find("tbody").rows) {
      row.querySelector("button").setAttribute("aria-pressed", String(row.dataset.path === this.path));
    }
  }

  // ---------------------------------------------------------------- one layer

  async open(path, time) {
    const found = await this.ask("layer", { path, time });
    const other = found.path !== this.path;
    this.path = found.path;
    this.time = found.time;
    this.keep({ layer: path, time: time || undefined });
    this.mark();
    this.head(found);
    if (other) {
      this.pictures.clear();
      this.find(".model-number").hidden = true;
    }
    this.show_pictures(found);
    await this.measure();
  }

  head(found) {
    this.find(".model-head h3").textContent = `${found.path || "the network"} · ${found.settings}`;
    this.find(".model-head p").textContent = found.documentation.replaceAll("`", "");
    const choice = this.find(".model-time");
    choice.hidden = found.times < 2;
    const option = (_, k) => make("option", { value: k, textContent: `${k + 1} of ${found.times}` });
    choice.querySelector("select").replaceChildren(...Array.from({ length: found.times }, option));
    choice.querySelector("select").value = found.time;
  }

  show_pictures(found) {
    const place = this.find(".model-pictures");
    for (const given of found.pictures) {
      const kept = this.pictures.get(given.what);
      if (kept && kept.given.page !== 0) continue; // another page is in view: `again` asks for it
      if (kept) kept.draw(given);
      else
        this.pictures.set(
          given.what,
          new Picture(given, {
            choose: (picture, index) => this.choose(picture, index).catch(() => {}),
            turn: (what, page) => this.ask("part", { path: this.path, time: this.time, what, page }),
          }),
        );
    }
    const elements = [...this.pictures.values()].map((picture) => picture.element);
    const same = place.childElementCount === elements.length && place.firstChild === elements[0];
    if (!same) place.replaceChildren(...elements);
  }

  /** The same layer at another θ or row. */
  async again() {
    if (this.path !== undefined) {
      await this.open(this.path, this.time);
      for (const picture of this.pictures.values()) {
        if (picture.given.page) picture.draw(await picture.turn(picture.given.what, picture.given.page));
      }
    } else await this.measure();
  }

  // ---------------------------------------------------------------- one number

  async choose(picture, index) {
    if (picture.entry) return this.explain(picture.entry, [...picture.before, ...index]);
    const found = await this.ask("unit", { path: this.path, time: this.time, what: picture.what, index });
    const head = make("h3", { textContent: `Unit [${index.join(", ")}] of ${this.path || "the network"}` });
    const values = Object.entries(found.values)
      .map(([name, value]) => `${name} = ${number(value, 5)}`)
      .join(", ");
    const told = make("p", { className: "number", textContent: values });
    const list = make("ul");
    for (const one of found.entries) {
      const [value, slope] = [one.value, one.slope].map((size) => number(size, 4));
      const text = `${one.name}[${one.index.join(", ")}] = ${value}, ∂C/∂${one.name} = ${slope}`;
      const button = make("button", { type: "button", className: "small quiet number", textContent: text });
      button.addEventListener("click", () => this.explain(one.path, one.index).catch(() => {}));
      list.append(make("li", {}, button));
    }
    const words =
      "The parameters that lead to it, those with the steepest slopes first. Choose one to see its derivation.";
    const lead = make("p", { className: "muted small", textContent: found.entries.length ? words : "" });
    this.find(".model-unit").replaceChildren(head, told, lead, list);
    this.find(".model-derivation").replaceChildren();
    this.find(".model-number").hidden = false;
  }

  async explain(path, index) {
    const found = await this.ask("entry", { path, index });
    this.app.math(this.find(".model-derivation"), found.mathml);
    const shown = this.find(".model-number");
    shown.hidden = false;
    shown.scrollIntoView({ block: "nearest" });
    shown.focus({ preventScroll: true });
    this.app.select({ path, index });
  }

  // ---------------------------------------------------------------- frames

  update(frame) {
    if (!this.about || this.known === null || frame.version === this.known || this.waiting || this.hidden) return;
    this.waiting = true;
    setTimeout(async () => {
      try {
        await this.again();
      } catch {
        /* the notice says why */
      } finally {
        this.waiting = false;
      }
    }, LIVE);
  }

  show() {
    this.hidden = false;
    if (this.about) this.again().catch(() => {});
  }

  hide() {
    this.hidden = true;
  }
}
