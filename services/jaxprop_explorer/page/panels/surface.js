// The surface panel: C over two directions from the side and from above, a ball to drag, and gradient descent on it.

import { Contour } from "../draw/contour.js";
import { number } from "../draw/format.js";
import { Relief } from "../draw/relief.js";

const PAUSE = 90; // milliseconds between the steps of playing
const MOST = 500; // steps that one path takes
const MARKUP = `
<div class="panel-head"><h2>The cost as a landscape</h2></div>
<div class="ground-choice">
  <div class="field ground-view"><label for="ground-view">Surface</label><select id="ground-view"></select></div>
  <div class="ground-pair" hidden>
    <div class="field"><label for="ground-path-0">First parameter</label><select id="ground-path-0"></select></div>
    <div class="field"><label for="ground-index-0">Its place</label><input id="ground-index-0"
      inputmode="numeric"></div>
    <div class="field"><label for="ground-path-1">Second parameter</label><select id="ground-path-1"></select></div>
    <div class="field"><label for="ground-index-1">Its place</label><input id="ground-index-1"
      inputmode="numeric"></div>
  </div>
  <div class="actions ground-situations" role="group" aria-label="Situations"></div>
  <button type="button" class="ground-seed" hidden>Other directions</button>
</div>
<div class="ground-pictures">
  <figure><canvas class="ground-side" tabindex="0" role="img"></canvas>
    <figcaption>From the side. Drag it or press the arrow keys to turn it; drag the ball to move the ball.</figcaption>
    </figure>
  <figure><canvas class="ground-above" tabindex="0" role="img"></canvas>
    <figcaption>From above. Press anywhere, drag, or press the arrow keys to move the ball.</figcaption></figure>
  <div class="ground-told">
    <div class="actions"><button type="button" class="primary ground-play">Play</button>
      <button type="button" class="ground-step">Step</button>
      <button type="button" class="ground-back">Back to the start</button></div>
    <div class="field"><label for="ground-rate">Learning rate η = <output class="ground-rate-told"></output></label>
      <input type="range" id="ground-rate" min="-3" max="0.5" step="0.01"></div>
    <p class="ground-sentence callout" aria-live="polite"></p>
    <dl class="ground-numbers"></dl>
    <div class="legend ground-legend">
      <span><i class="key-ball"></i>the ball: θ</span><span><i class="key-path"></i>its path</span>
      <span><i class="key-ahead"></i>where descent would go</span>
      <span class="only-article"><i class="key-minima"></i>minima: θ₁θ₂ = 2</span>
      <span class="only-article"><i class="key-saddle">×</i>saddle</span></div>
  </div>
</div>
<p class="muted small ground-note"></p>`;

export default {
  name: "surface",
  title: "Surface",
  mount(element, app) {
    element.append(...new DOMParser().parseFromString(MARKUP, "text/html").body.childNodes);
    return new SurfacePanel(element, app);
  },
};

class SurfacePanel {
  constructor(element, app) {
    this.app = app;
    this.find = (selector) => element.querySelector(selector);
    this.seen = null;
    this.choice = { view: "article", seed: 0, rate: 0.1, ...app.state.surface };
    this.relief = new Relief(this.find(".ground-side"), (x, y) => this.place(x, y));
    this.contour = new Contour(this.find(".ground-above"), (x, y) => this.place(x, y));
    this.pairs = [0, 1].map((k) => ({ path: this.find(`#ground-path-${k}`), index: this.find(`#ground-index-${k}`) }));
    this.controls();
    app.on("session", () => {
      this.seen = null;
      if (this.shown) this.look();
    });
  }

  controls() {
    const fresh = (changes) => this.look({ start: null, steps: 0, ...changes });
    this.view = this.find("#ground-view");
    this.view.addEventListener("change", () => fresh({ view: this.view.value }));
    for (const { path, index } of this.pairs) {
      const placed = (text) => text.split(/[ ,]+/).filter(Boolean).map(Number);
      const chosen = () => this.pairs.map((one) => [one.path.value, placed(one.index.value)]);
      path.addEventListener("change", () => {
        index.value = origin(path);
        fresh({ chosen: chosen() });
      });
      index.addEventListener("change", () => fresh({ chosen: chosen() }));
    }
    this.find(".ground-seed").addEventListener("click", () => fresh({ seed: (this.choice.seed + 1) % 1000 }));
    this.find(".ground-step").addEventListener("click", () => {
      this.stop();
      this.run(1);
    });
    this.find(".ground-play").addEventListener("click", () => this.toggle());
    this.find(".ground-back").addEventListener("click", () => this.seen && this.place(...this.seen.path[0]));
    this.rate = this.find("#ground-rate");
    this.rate.addEventListener("input", () => {
      this.tellRate(Number((10 ** Number(this.rate.value)).toPrecision(2)));
      if (this.seen) this.place(this.seen.ball.x, this.seen.ball.y);
    });
  }

  show() {
    this.shown = true;
    if (!this.seen) this.look();
  }

  hide() {
    this.shown = false;
    this.stop();
  }

  /** θ may have moved in another panel: then the surface is looked at anew, once it rests. */
  update(frame) {
    clearTimeout(this.later);
    if (!this.shown || !this.seen || this.choice.view === "article") return;
    if (frame.version === this.seen.version || frame.playing || this.asking || this.playing) return;
    this.later = setTimeout(() => this.look({ start: null, steps: 0 }), 400);
  }

  /** Ask for a surface; `changes` are what is chosen anew. */
  async look(changes = {}) {
    this.stop();
    clearTimeout(this.later);
    const before = { ...this.choice };
    Object.assign(this.choice, changes);
    const { view, seed, rate, start = null, steps = 0, chosen = null } = this.choice;
    this.busy(true);
    try {
      const asked = { view, seed, rate, start, steps, chosen: view === "two" ? chosen : null };
      this.receive(await this.app.ask("surface/look", asked));
      this.remember();
    } catch {
      // the notice says why; what is drawn stays
      this.choice = before;
      if (this.seen) {
        this.offer();
        this.tell();
      }
    } finally {
      this.busy(false);
    }
  }

  /** While a surface is computed the old one stands back. */
  busy(waiting) {
    this.find(".ground-pictures").setAttribute("aria-busy", String(waiting));
    if (waiting) this.find(".ground-sentence").textContent = "The surface is being computed …";
  }

  /** Put the ball somewhere. While an answer is on its way only the latest wish is kept. */
  async place(x, y) {
    this.stop();
    this.wish = [x, y];
    if (!this.seen || this.asking) return;
    this.asking = true;
    try {
      while (this.wish) {
        const [a, b] = this.wish;
        this.wish = null;
        this.receive(await this.app.ask("surface/place", { x: a, y: b, rate: this.choice.rate }));
      }
      this.remember();
    } catch {
      // the notice says why
      this.wish = null;
    } finally {
      this.asking = false;
    }
  }

  async run(steps) {
    this.receive(await this.app.ask("surface/step", { steps, rate: this.choice.rate }));
    this.remember();
  }

  async toggle() {
    if (this.playing) {
      this.stop();
      return;
    }
    this.playing = true;
    this.find(".ground-play").textContent = "Pause";
    try {
      while (this.playing && !this.seen.diverged && this.seen.steps < MOST) {
        await this.run(1);
        await new Promise((done) => {
          setTimeout(done, PAUSE);
        });
      }
    } catch {
      // the notice says why
    } finally {
      this.stop();
    }
  }

  stop() {
    this.playing = false;
    this.find(".ground-play").textContent = "Play";
  }

  tellRate(rate) {
    this.choice.rate = rate;
    this.find(".ground-rate-told").textContent = number(rate, 2);
  }

  /** Keep in the address what brings this path again. */
  remember() {
    const { view, seed, rate, chosen } = this.choice;
    this.choice.start = this.seen.path[0].slice(0, 2);
    this.choice.steps = Math.min(this.seen.steps, MOST);
    this.app.setState({ surface: { view, seed, rate, chosen, start: this.choice.start, steps: this.choice.steps } });
  }

  receive(found) {
    clearTimeout(this.later);
    this.seen = { ...this.seen, ...found };
    if (found.heights) this.offer();
    this.relief.show(this.seen);
    this.contour.show(this.seen);
    this.tell();
  }

  /** What stands to choose, after a new surface came. */
  offer() {
    const { views, situations, parameters, view, chosen, rate } = this.seen;
    const buttons = this.find(".ground-situations");
    if (!buttons.children.length) {
      for (const [name, label] of Object.entries(views)) this.view.append(new Option(label, name));
      for (const { label, start, rate: eta } of Object.values(situations)) {
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
        button.addEventListener("click", () => this.look({ view: "article", start, rate: eta, steps: 0 }));
        buttons.append(button);
      }
    }
    this.view.value = view;
    this.rate.value = Math.log10(rate);
    this.tellRate(rate);
    this.pairs.forEach(({ path, index }, k) => {
      path.replaceChildren(
        ...parameters.map((one) => {
          const option = new Option(`${one.path} [${one.shape.join(", ")}]`, one.path);
          option.dataset.shape = one.shape.join(",");
          return option;
        }),
      );
      if (chosen) [path.value, index.value] = [chosen[k][0], chosen[k][1].join(", ")];
    });
    this.find(".ground-pair").hidden = view !== "two";
    this.find(".ground-seed").hidden = view !== "random";
    for (const key of document.querySelectorAll("#surface .only-article")) key.hidden = view !== "article";
    buttons.hidden = view !== "article";
    this.find(".ground-note").textContent = this.seen.note;
  }

  tell() {
    const { ball, names, gradient, hessian, eigenvalues, sentence, steps, diverged } = this.seen;
    const told = this.find(".ground-sentence");
    if (told.textContent !== sentence) told.textContent = sentence;
    told.classList.toggle("bad", diverged);
    const rows = [
      [names[0], number(ball.x, 4), "x"],
      [names[1], number(ball.y, 4), "y"],
      ["C", number(ball.cost, 4), "cost"],
      ["steps", String(steps), "steps"],
      ["gradient", gradient.map((one) => number(one)).join(", "), "gradient"],
      ["Hessian", hessian.map((row) => row.map((one) => number(one)).join("   ")).join("\n"), "hessian"],
      ["its eigenvalues", eigenvalues.map((one) => number(one)).join(", "), "eigenvalues"],
    ];
    this.find(".ground-numbers").replaceChildren(
      ...rows.map(([name, value, key]) => {
        const [row, term, given] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
        term.textContent = name;
        given.textContent = value;
        given.className = "number";
        given.dataset.key = key;
        row.append(term, given);
        return row;
      }),
    );
    const at = `${names[0]} = ${number(ball.x)}, ${names[1]} = ${number(ball.y)}`;
    const where = `The ball is at ${at}, where C = ${number(ball.cost)}.`;
    this.find(".ground-side").setAttribute("aria-label", `The cost from the side. ${where} The arrow keys turn it.`);
    const above = `The cost from above. ${where} The arrow keys move the ball.`;
    this.find(".ground-above").setAttribute("aria-label", above);
  }
}

function origin(select) {
  const shape = select.selectedOptions[0].dataset.shape;
  return shape
    ? shape
        .split(",")
        .map(() => 0)
        .join(", ")
    : "";
}
