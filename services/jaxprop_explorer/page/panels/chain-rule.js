// The chain-rule panel: what was clicked in the network, its derivative as cards that multiply, and what a step does.

import { cards, formula, latest, matching, sentence, terms } from "../draw/cards.js";
import { make } from "../draw/elements.js";
import { figure, lines, range } from "../draw/lines.js";

const WHILE_PLAYING = 150; // milliseconds between two questions, so that training has the machine to itself

const MARKUP = `
<div class="panel-head"><h2>Chain rule</h2></div>
<div class="fields cr-pick" role="group" aria-label="Which number">
  <div class="field cr-what"><label for="cr-path">Number</label><select id="cr-path"></select></div>
  <div class="field"><label for="cr-from">From</label><select id="cr-from"></select></div>
  <div class="field"><label for="cr-to">To unit</label><select id="cr-to"></select></div>
</div>
<p class="cr-asked prose"></p>
<div class="cr-edit" role="group" aria-label="Change its value">
  <span class="cr-symbol"></span><span aria-hidden="true">=</span>
  <input type="number" step="any" class="cr-value" aria-label="Value">
  <input type="range" class="cr-drag" step="any" aria-label="Drag the value; arrow keys move it too">
</div>
<div class="cr-whose">
  <fieldset class="segmented"><legend class="visually-hidden">Whose cost</legend>
    <label><input type="radio" name="cr-whose" value="example" checked><span>This example</span></label>
    <label><input type="radio" name="cr-whose" value="batch"><span>The batch</span></label></fieldset>
  <p class="small"><span class="cr-cost-words muted">
    </span> C = <output class="number cr-cost" aria-live="off"></output></p>
</div>
<ol class="cr-cards"></ol>
<div class="cr-product formula"></div>
<section class="cr-batch" hidden><h3></h3><p class="small muted"></p><ol class="cr-terms"></ol>
  <div class="formula"></div></section>
<section class="cr-paths" hidden><h3>Every path back from the cost</h3><p class="small muted"></p>
  <ol class="cr-terms"></ol><div class="formula"></div></section>
<section class="cr-ways"><h3>The same number by other ways</h3><table class="numbers cr-witnesses"><tbody>
  </tbody></table></section>
<section class="cr-update" aria-label="The update">
  <div class="panel-head"><h3>One step of gradient descent</h3><div class="actions">
    <label class="small cr-rate">η
      <input type="number" min="0" step="any" aria-label="Learning rate η of this step"></label>
    <button type="button" class="small cr-flip" aria-pressed="false">Flip the sign</button>
    <button type="button" class="small cr-step">Take this step</button></div></div>
  <div class="formula cr-new"></div>
  <div class="scroll"><table class="numbers cr-changes"><tbody></tbody></table></div>
  <p class="cr-outcome" role="status"></p>
</section>
<div class="columns cr-figures"></div>
<details class="fold cr-steps"><summary>Every step, written out</summary><div></div></details>
<details class="fold cr-export"><summary>Take it with you</summary>
  <div class="actions"><label class="field"><span class="label">As</span><select class="cr-form">
    <option value="latex">LaTeX</option><option value="document">LaTeX, a whole document</option>
    <option value="mathml">HTML with MathML</option><option value="html">a page that opens by itself</option>
    <option value="json">JSON, as jaxprop explain --json</option><option value="text">plain text</option>
    </select></label>
    <button type="button" class="cr-copy">Copy</button><button type="button" class="cr-download">Download</button></div>
  <textarea class="cr-text" rows="8" readonly aria-label="The derivation in this form"></textarea>
</details>
<label class="check small"><input type="checkbox" class="cr-article"> Names as in the article: a for the
  answer, ŷ for the target</label>`;

export default {
  name: "chain-rule",
  title: "Chain rule",
  mount(element, app) {
    return new ChainRule(element, app);
  },
};

class ChainRule {
  constructor(element, app) {
    this.app = app;
    this.element = element;
    app.math(element, MARKUP);
    this.find = (selector) => element.querySelector(selector);
    this.slope = figure("");
    this.nudge = figure("");
    this.find(".cr-figures").append(this.slope.element, this.nudge.element);
    this.refresh = latest(
      () => this.ask(),
      () => (app.frame?.playing ? WHILE_PLAYING : 0),
    );
    this.send = latest(() => this.edit());
    matching(element);
    this.listen();
  }

  listen() {
    const { app } = this;
    const on = (selector, event, action) => this.find(selector).addEventListener(event, action);
    const state = app.state.chain ?? {};
    this.find(".cr-article").checked = state.article === true;
    this.find(`[value="${state.whose === "batch" ? "batch" : "example"}"]`).checked = true;
    app.on("select", () => this.refresh());
    for (const name of ["path", "from", "to"]) on(`#cr-${name}`, "change", () => this.picked(name));
    on(".cr-drag", "input", (event) => this.wish(event.target.value));
    on(".cr-drag", "change", () => {
      this.spread = null;
      this.wished = undefined;
    });
    on(".cr-value", "change", (event) => {
      this.spread = null;
      this.wish(event.target.value);
    });
    on(".cr-whose", "change", () => this.keep());
    on(".cr-article", "change", () => this.keep());
    on(".cr-rate input", "change", () => this.refresh());
    on(".cr-flip", "click", (event) => {
      const flipped = event.target.getAttribute("aria-pressed") !== "true";
      event.target.setAttribute("aria-pressed", flipped);
      if (this.found) this.update_row(this.found);
    });
    on(".cr-step", "click", () => this.step());
    on(".cr-steps", "toggle", () => this.refresh());
    on(".cr-export", "toggle", () => this.fill());
    on(".cr-form", "change", () => this.fill());
    on(".cr-copy", "click", () => this.copy());
    on(".cr-download", "click", () => this.download());
  }

  get whole_batch() {
    return this.find("[value=batch]").checked;
  }

  get article() {
    return this.find(".cr-article").checked;
  }

  get flipped() {
    return this.find(".cr-flip").getAttribute("aria-pressed") === "true";
  }

  get learning_rate() {
    const value = Number(this.find(".cr-rate input").value);
    return value > 0 ? value : null;
  }

  get place() {
    return { path: this.found.path, index: this.found.index };
  }

  keep() {
    this.app.setState({ chain: { whose: this.whole_batch ? "batch" : "example", article: this.article } });
    this.refresh();
  }

  update(frame) {
    this.find(".cr-outcome").ariaLive = frame.playing ? "off" : "polite"; // else it would be read out with every frame
    this.refresh();
  }

  show() {
    this.refresh();
  }

  hide() {}

  // ---------------------------------------------------------------- questions

  async ask() {
    await this.app.changing; // else this would be asked of the network that was there before
    if (!this.element.getClientRects().length || !this.app.frame) return;
    const chosen = this.chosen() ?? {};
    const asked = {
      path: chosen.path ?? null,
      index: chosen.index ?? [],
      whole_batch: this.whole_batch,
      article: this.article,
      every_step: this.find(".cr-steps").open,
      learning_rate: this.learning_rate,
    };
    const key = JSON.stringify([asked, this.app.session, this.app.frame.version]);
    if (key === this.answered) return;
    const found = await this.app.ask("chain-rule/explain", asked);
    const stale = key !== JSON.stringify([asked, this.app.session, this.app.frame.version]);
    if (stale && !this.shape(found.path)) return; // another network has come meanwhile, and is asked about next
    this.answered = key;
    this.found = found;
    this.draw(found);
    // What tells most was picked: it stays, as the numbers move.
    if (!chosen.path && !this.app.selected) this.app.select(this.place);
  }

  /** What is selected, if this network has it: the one before may have been larger. */
  chosen() {
    const place = this.app.selected;
    const shape = place && this.shape(place.path);
    return shape && place.index.length === shape.length && place.index.every((k, i) => k < shape[i]) ? place : null;
  }

  /** A wish for another value: it is sent when the one before has arrived. */
  wish(value) {
    if (value === "" || !Number.isFinite(Number(value))) return;
    this.wished = this.sending = Number(value);
    this.send();
  }

  async edit() {
    const { path, index } = this.found.number;
    await this.app.ask("network/edit", { path, index, value: this.sending });
  }

  async step() {
    const asked = {
      ...this.place,
      flipped: this.flipped,
      whole_batch: this.whole_batch,
      learning_rate: this.learning_rate,
    };
    try {
      await this.app.ask("chain-rule/step", asked);
    } catch {
      /* the app has shown what the server said */
    }
  }

  // ---------------------------------------------------------------- drawing

  draw(found) {
    const { app } = this;
    this.picker(found);
    sentence(app, this.find(".cr-asked"), found.asked);
    this.value(found);
    // They belong to one example.
    this.find(".cr-whose fieldset").hidden = found.kind === "input" || found.kind === "unit";
    this.find(".cr-cost-words").textContent = found.cost.words;
    this.find(".cr-cost").textContent = found.cost.value;
    cards(app, this.find(".cr-cards"), found);
    const products = [found.product, ...found.others].filter(Boolean);
    this.find(".cr-product").replaceChildren(...products.map((each) => formula(app, each.math)));
    this.paths(found.paths);
    this.batch(found.batch);
    this.witnesses(found);
    this.find(".cr-update").hidden = !found.update;
    if (found.update) this.update_row(found);
    this.figures(found);
    if (found.steps) this.steps(found.steps);
    if (this.find(".cr-export").open) this.fill();
  }

  value(found) {
    const [field, drag] = [this.find(".cr-value"), this.find(".cr-drag")];
    const fixed = found.kind === "input" || found.kind === "unit" || this.app.frame.steerable === false;
    this.find(".cr-edit").hidden = fixed;
    if (fixed) return;
    this.app.math(this.find(".cr-symbol"), found.update.symbol);
    if (document.activeElement !== field) field.value = found.number.text;
    const { value } = found.number;
    const where = `${found.number.path}${found.number.index}`;
    if (!this.spread || this.spread.where !== where || Math.abs(value) > this.spread.reach) {
      this.spread = { where, reach: found.number.reach };
      Object.assign(drag, { min: -found.number.reach, max: found.number.reach });
    }
    drag.step = this.spread.reach / 200;
    if (document.activeElement !== drag || this.wished === undefined) drag.value = value;
  }

  paths(found) {
    const section = this.find(".cr-paths");
    section.hidden = !found;
    if (!found) return;
    sentence(this.app, section.querySelector("p"), found.why);
    terms(this.app, section.querySelector("ol"), found.terms);
    this.app.math(section.querySelector(".formula"), found.sum.math);
  }

  batch(found) {
    const section = this.find(".cr-batch");
    section.hidden = !found;
    if (!found) return;
    section.querySelector("h3").textContent = found.title;
    sentence(this.app, section.querySelector("p"), found.sentence);
    terms(this.app, section.querySelector("ol"), found.terms);
    this.app.math(section.querySelector("div"), found.sum.math);
  }

  witnesses(found) {
    this.find(".cr-ways").hidden = !found.witnesses.length;
    const rows = found.witnesses.map(({ label, value, exact, off }) => {
      const cell = make("td", { className: "number", textContent: value });
      cell.dataset.value = exact;
      return make(
        "tr",
        {},
        make("th", { scope: "row", textContent: label }),
        cell,
        make("td", { className: "number muted", textContent: off }),
      );
    });
    this.find(".cr-witnesses tbody").replaceChildren(...rows);
  }

  update_row(found) {
    const { app, flipped } = this;
    const { update } = found;
    const way = flipped ? update.up : update.down;
    const rate = this.find(".cr-rate input");
    if (document.activeElement !== rate && !rate.value) rate.value = update.rate_text;
    app.math(this.find(".cr-new"), way.new.math);
    const row = (name, markup, value, tone = "") => {
      const head = make("th", { scope: "row", textContent: `${name} ` });
      if (markup) head.append(formula(app, markup, "inline-formula"));
      return make("tr", {}, head, make("td", { className: `number ${tone}`, textContent: value }));
    };
    const sign = way.rises ? "▲ " : way.falls ? "▼ " : "";
    this.find(".cr-changes tbody").replaceChildren(
      row("w", update.symbol, update.value),
      row("the step", way.step, way.moved),
      row("w′", "", way.updated),
      row("predicted change of C", way.predicted_by, way.predicted),
      row("actual change of C", "", sign + way.actual, way.rises ? "bad" : way.falls ? "good" : ""),
      row("C", "", way.costs),
    );
    this.find(".cr-step").disabled = app.frame.steerable === false;
    this.find(".cr-outcome").textContent = way.words;
    this.find(".cr-outcome").className = `cr-outcome ${way.rises ? "bad" : ""}`;
  }

  figures(found) {
    const { slope, nudge } = found;
    this.slope.element.hidden = !slope;
    if (slope) {
      const across = range(slope.z, { room: 0 });
      const { z, value, slope: steep } = slope.at;
      lines(this.slope.svg, {
        series: [
          { x: slope.z, y: slope.values, kind: "first" },
          { x: slope.z, y: slope.slopes, kind: "second" },
        ],
        dots: [
          { x: z, y: value, kind: "first" },
          { x: z, y: steep, kind: "second" },
        ],
        guides: [{ x: z }],
        x: { label: "z", range: across },
        y: { range: range([...slope.values, ...slope.slopes, 0]) },
        words:
          `${slope.activation} and its slope: at z = ${slope.text.z} the value is ${slope.text.value}, ` +
          `the slope ${slope.text.slope}.`,
      });
      this.caption(this.slope.told, [
        ["first", `${slope.activation}(z) = ${slope.text.value}`],
        ["second", `its slope = ${slope.text.slope}`],
        ["", `at z = ${slope.text.z}`],
      ]);
    }
    this.nudge.element.hidden = !nudge;
    if (!nudge) return;
    lines(this.nudge.svg, {
      series: [
        { x: nudge.h, y: nudge.one_way, kind: "second" },
        { x: nudge.h, y: nudge.both_ways, kind: "first" },
      ],
      x: { label: "size of the nudge h", log: true, range: range(nudge.h, { log: true }) },
      y: { log: true, range: range([...nudge.both_ways, ...nudge.one_way], { log: true }) },
      words:
        `Error of a nudge against its size h. ${nudge.words} The best is h = ${nudge.best.h}, with an ` +
        `error of ${nudge.best.error}.`,
    });
    this.caption(this.nudge.told, [
      ["first", "error of a nudge both ways"],
      ["second", "one way"],
      ["", nudge.words],
      ["", nudge.best.words],
    ]);
  }

  caption(element, parts) {
    element.replaceChildren(
      ...parts.map(([key, text]) =>
        make("span", {}, ...(key ? [make("i", { className: `key ${key}` })] : []), `${text} `),
      ),
    );
    element.className = "legend";
  }

  steps(found) {
    const list = found.map((step, i) => {
      const equations = step.equations.map(({ label, math }) =>
        make(
          "div",
          { className: "cr-equation" },
          label ? make("span", { className: "small muted" }, `${label}: `) : "",
          formula(this.app, math),
        ),
      );
      const rows = step.rows.map((row) => make("tr", {}, ...row.map((cell) => sentence(this.app, make("td"), cell))));
      const table = rows.length
        ? [make("div", { className: "scroll" }, make("table", { className: "numbers" }, make("tbody", {}, ...rows)))]
        : [];
      return make(
        "section",
        {},
        make("h4", {}, `${i + 1}. ${step.title}`),
        sentence(this.app, make("p", { className: "small" }), step.sentence),
        ...equations,
        ...table,
      );
    });
    this.find(".cr-steps > div").replaceChildren(...list);
  }

  // ---------------------------------------------------------------- which number

  picker(found) {
    const { frame } = this.app;
    const [path, from, to] = ["path", "from", "to"].map((name) => this.find(`#cr-${name}`));
    const options = [["x", "An input"]];
    frame.layers.forEach((layer, n) => {
      const name = `layer ${n + 1}`;
      options.push([`${layer.path}.W`.replace(/^\./, ""), `A weight of ${name}`]);
      if (layer.b) options.push([`${layer.path}.b`.replace(/^\./, ""), `A bias of ${name}`]);
      if (layer.path) options.push([layer.path, `A unit of ${name}`]);
    });
    offer(path, options, found.path);
    const weight = found.kind === "weight" && found.index.length === 2;
    const shape = this.shape(found.path);
    this.find(".cr-pick").hidden = !shape; // a layer that the drawing does not open
    if (!shape) return;
    from.closest(".field").hidden = !weight;
    to.closest(".field").querySelector("label").textContent =
      found.kind === "input" ? "Input" : weight ? "To unit" : "Unit";
    if (weight) offer(from, numbered(shape[0]), String(found.index[0]));
    offer(to, numbered(shape.at(-1)), String(found.index.at(-1)));
  }

  /** How many numbers there are to choose from, along each axis; null where there is nothing of that path. */
  shape(path) {
    const { frame } = this.app;
    if (path === "x") return [frame.inputs.values.length];
    const layer = frame.layers.find((one) => path === one.path || path.replace(/\.?[Wb]$/, "") === one.path);
    if (!layer || (path.endsWith("b") && !layer.b)) return null;
    return path.endsWith("W") ? layer.W.shape : [layer.units];
  }

  picked(name) {
    const [path, from, to] = ["path", "from", "to"].map((one) => this.find(`#cr-${one}`).value);
    const shape = this.shape(path);
    const index = name === "path" ? shape.map(() => 0) : shape.length === 2 ? [Number(from), Number(to)] : [Number(to)];
    this.app.select({ path, index });
  }

  // ---------------------------------------------------------------- other forms

  async fill() {
    if (!this.find(".cr-export").open || !this.found) return;
    try {
      this.written = await this.app.ask("chain-rule/derivation", {
        ...this.place,
        form: this.find(".cr-form").value,
        article: this.article,
      });
      this.find(".cr-text").value = this.written.text;
    } catch {
      /* the app has shown what the server said */
    }
  }

  async copy() {
    await this.fill();
    try {
      await navigator.clipboard.writeText(this.written.text);
      this.app.notice("The derivation is in the clipboard.");
    } catch {
      this.find(".cr-text").select();
      this.app.notice(
        "The browser does not allow this page to use the clipboard: the text is selected, copy it from there.",
        "error",
      );
    }
  }

  async download() {
    await this.fill();
    if (!this.written) return;
    const link = make("a", { href: URL.createObjectURL(new Blob([this.written.text])), download: this.written.name });
    link.click();
    URL.revokeObjectURL(link.href);
  }
}

function offer(select, options, value) {
  const now = [...select.options].map((one) => one.value).join();
  if (now !== options.map(([name]) => name).join()) {
    select.replaceChildren(...options.map(([name, text]) => make("option", { value: name, textContent: text })));
  }
  select.value = value;
}

function numbered(count) {
  return [...Array(count).keys()].map((k) => [String(k), String(k)]);
}
