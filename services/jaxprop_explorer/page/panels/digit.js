// The digit panel: draw a digit, see what the network sees of it, what every layer answers, and how the error of a
// label comes back.

import { number } from "../draw/format.js";
import { onColours } from "../draw/heat.js";
import { Pad } from "../draw/pad.js";
import { inkShades, paintTiles } from "../draw/tiles.js";

const MARKUP = `
<div class="panel-head"><h2>Draw a digit</h2></div>
<div class="digit-bench">
  <div class="digit-draw stack">
    <canvas class="digit-pad" tabindex="0" role="img" aria-label="A pad to draw a digit on; it is empty"></canvas>
    <div class="actions">
      <button type="button" class="digit-undo">Undo</button><button type="button" class="digit-clear">Clear</button>
      <button type="button" class="digit-shrink">Into a corner</button>
      <label class="check"><input type="checkbox" class="digit-centre" checked> Centre the drawing</label>
    </div>
  </div>
  <div class="digit-offers stack">
    <div class="field"><span class="label" id="digit-given">Or take one</span>
      <div class="actions digit-examples" role="group" aria-labelledby="digit-given"></div></div>
    <div class="field"><span class="label" id="digit-no">Or something that is no digit</span>
      <div class="actions digit-nonsense" role="group" aria-labelledby="digit-no"></div></div>
  </div>
  <div class="digit-answer stack">
    <div class="digit-see">
      <figure><canvas class="pixels digit-seen" role="img"></canvas>
        <figcaption>What the network sees: 28 × 28 pixels</figcaption></figure>
      <p class="callout digit-verdict" aria-live="polite" data-kind="waiting">The network is being made ready …</p>
    </div>
    <div class="digit-bars" role="group" aria-label="Probability of every digit"></div>
  </div>
  <div class="digit-back stack">
    <div class="field digit-label"><label for="digit-label">If it should be</label>
      <select id="digit-label"><option value="">– choose a label –</option></select></div>
    <figure><canvas class="pixels digit-pixels" role="img"></canvas>
      <figcaption>The error at the pixels, ∂C/∂x</figcaption></figure>
    <p class="small muted digit-told">Not computed yet.</p>
  </div>
</div>
<div class="digit-layers"></div>`;
const LETTERS = "0123456789";
const EMPTY = { strokes: [], nonsense: null, seed: 0, centred: true, label: null };

export default {
  name: "digit",
  title: "Digit",
  mount(element, app) {
    element.append(...new DOMParser().parseFromString(MARKUP, "text/html").body.childNodes);
    return new DigitPanel(element, app);
  },
};

class DigitPanel {
  constructor(element, app) {
    this.app = app;
    this.find = (selector) => element.querySelector(selector);
    this.turns = {};
    this.drawing = { ...EMPTY };
    this.pad = new Pad(this.find(".digit-pad"), (strokes) => this.change({ strokes, nonsense: null }));
    this.bars();
    this.controls();
    onColours(() => {
      if (this.seen) this.draw();
    });
    app.on("state", (state) => {
      if (state.digit && this.seen) this.restore(state.digit);
    });
  }

  controls() {
    this.find(".digit-undo").addEventListener("click", () => this.take(this.pad.strokes.slice(0, -1)));
    this.find(".digit-clear").addEventListener("click", () => this.take([]));
    this.find(".digit-shrink").addEventListener("click", () =>
      this.take(
        this.pad.strokes.map((stroke) =>
          stroke.map(([x, y]) => [Number((0.55 + 0.4 * x).toFixed(3)), Number((0.55 + 0.4 * y).toFixed(3))]),
        ),
      ),
    );
    this.find(".digit-centre").addEventListener("change", (event) => this.change({ centred: event.target.checked }));
    const label = this.find("#digit-label");
    label.append(...[...LETTERS].map((letter) => new Option(`a ${letter}`, letter)));
    label.addEventListener("change", () => this.change({ label: label.value === "" ? null : Number(label.value) }));
  }

  bars() {
    this.rows = [...LETTERS].map((letter) => {
      const tags = ["div", "span", "span", "i", "span"];
      const [row, name, track, bar, told] = tags.map((tag) => document.createElement(tag));
      row.className = "digit-bar";
      name.textContent = letter;
      track.className = "track";
      told.className = "number";
      told.dataset.digit = letter;
      track.append(bar);
      row.append(name, track, told);
      return { row, bar, told };
    });
    this.find(".digit-bars").append(...this.rows.map(({ row }) => row));
  }

  async show() {
    if (this.offered) return;
    this.offered = this.app.ask("digit/offered");
    try {
      this.offer(await this.offered);
    } catch {
      // the notice says why; the next time that the panel is shown it is tried again
      this.offered = null;
      return;
    }
    if (this.pad.strokes.length) return; // somebody was quicker
    if (this.app.state.digit) this.restore(this.app.state.digit);
    else this.find(".digit-examples button:nth-child(4)").click();
  }

  hide() {}

  /** Buttons for the drawings and the nonsense that the server has; pressed again, the next one comes. */
  offer({ digits, scribbles, nonsense }) {
    const button = (text, press) => {
      const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      made.addEventListener("click", press);
      return made;
    };
    this.find(".digit-examples").append(
      ...[...LETTERS].map((letter) => {
        const known = digits.filter((one) => one.digit === Number(letter));
        const made = button(letter, () => this.take(known[this.turn(letter) % known.length].strokes));
        made.className = "square";
        made.setAttribute("aria-label", `A drawn ${letter}`);
        return made;
      }),
    );
    this.find(".digit-nonsense").append(
      button("scribble", () => this.take(scribbles[this.turn("scribble") % scribbles.length])),
    );
    this.find(".digit-nonsense").append(
      ...nonsense.map((kind) =>
        button(kind, () => {
          this.pad.set([]);
          this.change({ strokes: [], nonsense: kind, seed: this.turn(kind) });
        }),
      ),
    );
  }

  turn(name) {
    this.turns[name] = (this.turns[name] ?? -1) + 1;
    return this.turns[name];
  }

  take(strokes) {
    this.pad.set(strokes);
    this.change({ strokes: this.pad.strokes, nonsense: null });
  }

  restore(drawing) {
    this.drawing = { ...EMPTY, ...drawing };
    this.pad.set(this.drawing.strokes);
    this.find(".digit-centre").checked = this.drawing.centred;
    this.find("#digit-label").value = this.drawing.label ?? "";
    this.change({});
  }

  /** Ask what the network makes of it. While an answer is on its way only the latest drawing is kept. */
  async change(changes) {
    Object.assign(this.drawing, changes);
    this.wish = true;
    if (this.asking) return;
    this.asking = true;
    try {
      while (this.wish) {
        this.wish = false;
        this.seen = await this.app.ask("digit/read", this.drawing);
        this.draw();
      }
      this.app.setState({ digit: { ...this.drawing } });
    } catch {
      // the notice says why
      this.wish = false;
    } finally {
      this.asking = false;
    }
  }

  draw() {
    const { picture, verdict, probabilities, percent, prediction, pixels, told } = this.seen;
    const ink = inkShades();
    paintTiles(this.find(".digit-seen"), picture, ink);
    this.pad.show(this.drawing.nonsense ? this.find(".digit-seen") : null);
    this.find(".digit-seen").setAttribute("aria-label", `What the network sees. ${verdict.text}`);
    const drawn = this.drawing.nonsense ?? `${this.pad.strokes.length} strokes`;
    this.find(".digit-pad").setAttribute("aria-label", `A pad to draw a digit on; on it: ${drawn}`);
    const text = this.find(".digit-verdict");
    if (text.textContent !== verdict.text) text.textContent = verdict.text;
    text.dataset.kind = verdict.kind;
    this.rows.forEach(({ row, bar, told: said }, k) => {
      bar.style.width = `${100 * (probabilities?.[k] ?? 0)}%`;
      said.textContent = percent?.[k] ?? "–";
      row.classList.toggle("largest", k === prediction);
    });
    const back = this.find(".digit-pixels");
    back.classList.toggle("waiting", !pixels);
    paintTiles(back, pixels ?? { ...picture, values: [""] });
    back.setAttribute(
      "aria-label",
      pixels
        ? `The error of every pixel, at most ${number(pixels.scale)} in size`
        : "The error at the pixels: not computed yet",
    );
    this.find(".digit-told").textContent =
      told ?? "Choose a label: then its error flows back, layer by layer, to the pixels. Not computed yet.";
    this.layers();
  }

  layers() {
    const place = this.find(".digit-layers");
    if (!this.seen.layers.length) {
      for (const canvas of place.querySelectorAll("canvas")) canvas.width += 0; // clears it
      for (const told of place.querySelectorAll(".number")) told.textContent = "–";
      return;
    }
    if (place.children.length !== this.seen.layers.length) place.replaceChildren(...this.seen.layers.map(layer));
    this.seen.layers.forEach(({ name, a, delta }, k) => {
      const row = place.children[k];
      row.querySelector("h3").textContent = name;
      for (const [key, maps, what] of [
        ["a", a, "activations a"],
        ["delta", delta, "errors δ = ∂C/∂z"],
      ]) {
        const canvas = row.querySelector(`.layer-${key} canvas`);
        const told = row.querySelector(`.layer-${key} .number`);
        canvas.classList.toggle("waiting", !maps);
        paintTiles(canvas, maps ?? { ...a, values: [] });
        told.textContent = maps ? `at most ${number(maps.scale)} in size` : "not computed yet";
        canvas.setAttribute("aria-label", `${name}, ${what}: ${told.textContent}`);
      }
    });
  }
}

function layer() {
  const row = document.createElement("div");
  row.className = "digit-layer";
  const head = document.createElement("h3");
  row.append(
    head,
    ...[
      ["a", "activations a"],
      ["delta", "errors δ"],
    ].map(([key, what]) => {
      const figure = document.createElement("figure");
      figure.className = `layer-${key}`;
      const canvas = Object.assign(document.createElement("canvas"), { className: "pixels" });
      canvas.setAttribute("role", "img");
      const caption = document.createElement("figcaption");
      const told = Object.assign(document.createElement("span"), { className: "number" });
      caption.append(`${what}, `, told);
      figure.append(canvas, caption);
      return figure;
    }),
  );
  return row;
}
