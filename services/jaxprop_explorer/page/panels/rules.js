// Rules and quantities: how far a rule's gradient points away from the true one, and which examples a batch is made of.

import { formula, latest, matching, sentence } from "../draw/cards.js";
import { make } from "../draw/elements.js";
import { example } from "../draw/example.js";
import { figure, lines, range } from "../draw/lines.js";

const WHILE_PLAYING = 250; // milliseconds between two questions, so that training has the machine to itself
const KINDS = 6; // ways to draw a line

const MARKUP = `
<div class="panel-head"><h2>Rules and quantities</h2></div>
<div class="fields">
  <div class="field"><label for="rule-choice">How errors come back</label><select id="rule-choice"></select></div>
  <div class="field"><span class="label">Measured on</span><fieldset class="segmented">
    <legend class="visually-hidden">Measured on</legend>
    <label><input type="radio" name="rule-of" value="batch" checked><span>The next batch</span></label>
    <label><input type="radio" name="rule-of" value="all"><span>All rows</span></label></fieldset></div>
</div>
<p class="rule-does lead"></p>
<p class="rule-formula-words small muted"></p>
<dl class="rule-formulas"><div><dt class="small muted">By this rule</dt><dd class="rule-formula"></dd></div>
  <div><dt class="small muted">By the chain rule</dt><dd class="formula rule-true"></dd></div></dl>
<div class="columns">
  <section aria-labelledby="rule-angles"><h3 id="rule-angles">The angle to the true gradient</h3>
    <p class="small muted">0° is backpropagation. Below 90° a small enough step still lowers C. 90° is what a
    direction drawn at random has.</p>
    <ol class="rule-dials"></ol>
    <div class="rule-time"></div>
    <div class="actions"><button type="button" class="small rule-compare">Compare all rules at this step</button></div>
    <div class="scroll"><table class="numbers rule-table" hidden><caption></caption><thead><tr>
    <th scope="col">Rule</th><th scope="col">in all</th></tr></thead><tbody></tbody></table></div>
  </section>
  <section aria-labelledby="rule-examples"><h3 id="rule-examples">How hard each example pulls</h3>
    <p class="small muted">The length of every example's own gradient. Far longer ones than the rest are outliers,
    wrong labels, or what is not learned yet.</p>
    <div class="norm-bars" role="toolbar" aria-label="The norms of the examples' gradients"></div>
    <div class="actions"><button type="button" class="small norm-largest">See the largest</button>
    <span class="small muted norm-told"></span></div>
    <div class="card example-view" aria-live="polite"></div>
  </section>
</div>
<section aria-labelledby="rule-quantities"><h3 id="rule-quantities">What the batch says</h3>
  <dl class="quantities"></dl></section>`;

export default {
  name: "rules",
  title: "Rules and quantities",
  mount(element, app) {
    return new Rules(element, app);
  },
};

class Rules {
  constructor(element, app) {
    this.app = app;
    this.element = element;
    app.math(element, MARKUP);
    this.find = (selector) => element.querySelector(selector);
    this.time = figure("");
    this.find(".rule-time").append(this.time.element);
    this.refresh = latest(
      () => this.ask(),
      () => (app.frame?.playing ? WHILE_PLAYING : 0),
    );
    matching(element);
    const on = (selector, event, action) => this.find(selector).addEventListener(event, action);
    on("#rule-choice", "change", (event) => this.choose(event.target.value));
    on(".columns", "keydown", (event) => this.move(event));
    on(".rule-compare", "click", () => this.compare());
    on(".norm-largest", "click", () => this.see(this.found.largest));
    on(".segmented", "change", () => {
      this.find(".norm-told").textContent = "Measuring …";
      this.refresh();
    });
  }

  get of() {
    return this.find("[name=rule-of]:checked").value;
  }

  update(frame) {
    this.find(".example-view").ariaLive = frame.playing ? "off" : "polite";
    this.refresh();
  }

  show() {
    this.refresh();
  }

  hide() {}

  async ask() {
    if (!this.element.getClientRects().length || !this.app.session) return;
    const key = JSON.stringify([this.of, this.app.session, this.app.frame?.version]);
    if (key === this.answered) return;
    this.answered = key; // also if it is refused: then it is not asked again until something changes
    const found = await this.app.ask("rules/measure", { of: this.of });
    this.found = found;
    this.draw(found);
    if (this.seen !== found.in_view || this.at !== found.version) await this.view(found.in_view);
  }

  async choose(rule) {
    try {
      await this.app.ask("network/set", { changes: { rule } });
    } catch {
      this.find("#rule-choice").value = this.found.rule.name; // this network cannot go by it; the app has shown why
    }
  }

  async compare() {
    const button = this.find(".rule-compare");
    button.disabled = true;
    button.textContent = "Comparing …";
    try {
      const found = await this.app.ask("rules/compare", { of: this.of });
      this.table(found);
    } finally {
      button.disabled = false;
      button.textContent = "Compare all rules at this step";
    }
  }

  /** Take an example into view, here and in the network panel. */
  async see(row) {
    try {
      await this.app.ask("network/look", { index: row });
    } catch {
      /* the app has shown what the server said */
    }
  }

  async view(row) {
    const found = await this.app.ask("rules/example", { row });
    [this.seen, this.at] = [row, this.found.version];
    example(this.find(".example-view"), found);
  }

  // ---------------------------------------------------------------- drawing

  draw(found) {
    const { app } = this;
    const choice = this.find("#rule-choice");
    if (!choice.options.length)
      choice.append(...found.choices.map(({ name, title }) => make("option", { value: name, textContent: title })));
    if (document.activeElement !== choice || !app.frame?.playing) choice.value = found.rule.name;
    this.find(".rule-does").textContent = found.rule.does;
    for (const part of [".rule-formulas", ".rule-formula-words"]) this.find(part).hidden = !found.formula;
    if (found.formula) {
      sentence(app, this.find(".rule-formula-words"), found.formula.words);
      this.find(".rule-formula").replaceChildren(...found.formula.rule.map((each) => formula(app, each.math)));
      app.math(this.find(".rule-true"), found.formula.true.math);
    }
    this.dials(found.angles);
    this.overTime(found.over_time);
    this.bars(found);
    this.find(".quantities").replaceChildren(
      ...found.table.map(({ name, value, tells }) =>
        make(
          "div",
          { className: "quantity" },
          make("dt", {}, name),
          make("dd", { className: "number", textContent: value }),
          make("dd", { className: "small muted" }, tells),
        ),
      ),
    );
  }

  dials({ layers, total }) {
    const rows = [...layers, { label: "all together", angle: total.angle, text: total.text, share: total.share }];
    this.find(".rule-dials").replaceChildren(
      ...rows.map(({ label, angle, text, share }) => {
        const bar = make("span", { className: `dial-bar ${angle === null ? "none" : angle > 90 ? "minus" : "plus"}` });
        bar.style.width = `${100 * (share ?? 0)}%`;
        const value = make("output", { className: "number", textContent: text, ariaLive: "off" });
        if (angle !== null) value.dataset.value = angle;
        return make(
          "li",
          {},
          make("span", {}, label),
          make("span", { className: "dial", aria: { hidden: "true" } }, bar),
          value,
        );
      }),
    );
  }

  overTime(points) {
    const shown = points.length > 1;
    this.time.element.hidden = !shown;
    if (!shown) return;
    const count = Math.max(...points.map((point) => point.layers.length));
    const x = points.map((point) => point.step);
    const series = [...Array(count).keys()].map((k) => ({
      x,
      y: points.map((point) => point.layers[k] ?? NaN),
      kind: `kind-${(k % KINDS) + 1}`,
    }));
    const changes = points
      .slice(1)
      .filter((point, i) => point.rule !== points[i].rule)
      .map((point) => ({ x: point.step }));
    lines(this.time.svg, {
      series,
      guides: changes,
      x: { label: "step", range: range(x, { room: 0 }) },
      y: { range: [0, Math.max(100, ...points.flatMap((point) => point.layers.map((a) => a ?? 0)))] },
      words:
        `Angles of ${count} layers in degrees, from step ${x[0]} to ${x.at(-1)}; now ` +
        `${this.found.angles.layers.map((l) => `${l.label} ${l.text}`).join(", ")}.`,
    });
    this.time.told.className = "legend";
    this.time.told.replaceChildren(
      ...[...Array(count).keys()].map((k) =>
        make("span", {}, make("i", { className: `key kind-${(k % KINDS) + 1}` }), `layer ${k + 1}`),
      ),
    );
  }

  bars(found) {
    const holder = this.find(".norm-bars");
    const focused = holder.contains(document.activeElement) ? document.activeElement.dataset.row : null;
    holder.replaceChildren(
      ...found.bars.map((bar) => {
        const chosen = bar.row === found.in_view;
        const button = make("button", {
          type: "button",
          className: "norm-bar",
          tabIndex: -1,
          title: `example ${bar.row}: ${bar.text}`,
        });
        button.dataset.row = bar.row;
        button.dataset.value = bar.norm;
        button.setAttribute(
          "aria-label",
          `Example ${bar.row}, norm ${bar.text}${bar.row === found.largest ? ", the largest" : ""}`,
        );
        button.setAttribute("aria-pressed", chosen);
        const fill = make("span", { className: bar.row === found.largest ? "largest" : "" });
        fill.style.height = `${Math.max(1, 100 * bar.share)}%`;
        button.append(fill);
        button.addEventListener("click", () => this.see(bar.row));
        return button;
      }),
    );
    const stop =
      holder.querySelector(focused ? `[data-row="${focused}"]` : "[aria-pressed=true]") ?? holder.firstElementChild;
    if (stop) stop.tabIndex = 0;
    if (focused) stop?.focus();
    this.find(".norm-told").textContent = found.norms_words;
  }

  /** Arrow keys move from bar to bar, Home and End to the first and the last. */
  move(event) {
    const bar = event.target.closest?.(".norm-bar");
    if (!bar) return;
    const all = [...bar.parentElement.children];
    const at = all.indexOf(bar);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const to = all[(next + all.length) % all.length];
    bar.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  }

  table(found) {
    const table = this.find(".rule-table");
    const count = Math.max(0, ...found.rules.map((row) => row.layers.length));
    const head = ["Rule", ...[...Array(count).keys()].map((k) => `layer ${k + 1}`), "in all"];
    table
      .querySelector("thead tr")
      .replaceChildren(...head.map((text) => make("th", { scope: "col", textContent: text })));
    table.querySelector("tbody").replaceChildren(
      ...found.rules.map((row) => {
        const first = make("th", { scope: "row", textContent: row.title });
        if (row.refused)
          return make(
            "tr",
            {},
            first,
            make("td", { colSpan: count + 1, className: "rule-refused small muted", textContent: row.refused }),
          );
        return make(
          "tr",
          {},
          first,
          ...[...row.layers, row.total].map((cell) => make("td", { className: "number", textContent: cell.text })),
        );
      }),
    );
    table.querySelector("caption").textContent =
      `Angles at step ${found.step}; matrices that a rule draws at random are drawn anew here.`;
    table.hidden = false;
  }
}
