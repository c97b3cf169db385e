// The network panel: the network with its numbers, what it answers, its cost on the way, and the buttons that train
// it.

import { Controls } from "../draw/controls.js";
import { CostCurve } from "../draw/curve.js";
import { Flow } from "../draw/flow.js";
import { columnName, inputName, label, number, startName, unitName } from "../draw/format.js";
import { onColours } from "../draw/heat.js";
import { NetworkDrawing, entry } from "../draw/network.js";
import { asCanvas, asSVG, scene, titles } from "../draw/picture.js";
import { Steppers } from "../draw/steppers.js";
import { Surface } from "../draw/surface.js";

const MARKUP = `
<p class="net-lead">Press <b>Play</b> and watch this network learn. Then click a line: <b>Chain rule</b> shows how that
  weight reaches the cost, factor by factor.</p>
<details class="fold net-settings" open><summary>Settings</summary><div class="fields"></div></details>
<div class="net-bench">
  <div class="net-run">
    <button type="button" class="primary net-play">Play</button>
    <button type="button" class="net-step">Step</button>
    <button type="button" class="net-reset">Reset</button>
    <select class="net-speed" aria-label="Speed of training">
      <option value="1">1 step a second</option><option value="10">10 a second</option>
      <option value="100" selected>100 a second</option><option value="1000">1,000 a second</option>
      <option value="">as fast as it can</option></select>
    <dl class="net-counts">
      <div><dt>Step</dt><dd class="count-step number">0</dd></div>
      <div><dt>Epoch</dt><dd class="count-epoch number">0</dd></div>
      <div><dt>Cost</dt><dd class="count-cost number">–</dd></div>
      <div><dt>Held out</dt><dd class="count-held number">–</dd></div>
    </dl>
  </div>
  <div class="net-stage">
    <div class="net-left">
      <div class="net-layers" role="group" aria-label="Hidden layers"></div>
      <div class="net-drawing"></div>
      <p class="legend net-legend">
        <span><i class="edge-key plus"></i><span><span class="legend-what">weight</span> above 0</span></span>
        <span><i class="edge-key minus"></i>below 0</span><span>wider is larger</span>
        <span class="net-between"></span></p>
      <div class="net-told"><p class="told-words"></p><p class="told-name"></p><dl class="told-numbers"></dl>
        <div class="actions"><button type="button" class="small told-prune" hidden>Prune</button>
        <button type="button" class="small told-bias" hidden>Its bias</button></div></div>
      <div class="net-collapse" hidden><button type="button" class="small">Show these layers as one matrix</button>
        <div class="collapsed scroll" role="status"></div></div>
    </div>
    <div class="net-right">
      <figure><div class="net-surface"></div><figcaption>
        <div class="net-example">
          <button type="button" class="small square example-back" aria-label="Example before">‹</button>
        <span><span class="example-word">example</span> <span class="example-now number"></span></span>
        <button type="button" class="small square example-on" aria-label="Next example">›</button></div>
        <p class="surface-told number"></p>
        <p class="surface-key muted small">Filled points are learned from, hollow ones are held out.</p>
        </figcaption></figure>
      <figure><div class="net-curve"></div><figcaption class="legend"><span><i class="curve-key"></i>cost</span>
        <span><i class="curve-key dashed"></i>held out</span></figcaption></figure>
    </div>
  </div>
  <div class="net-pass">
    <fieldset class="segmented"><legend class="visually-hidden">Direction</legend>
      <label><input type="radio" name="direction" value="forward" checked><span>Forward</span></label>
      <label><input type="radio" name="direction" value="backward"><span>Backward</span></label></fieldset>
    <button type="button" class="pass-slow">Slow motion</button>
    <button type="button" class="pass-next">Next</button>
    <button type="button" class="pass-update">Update</button>
    <label class="check pass-speed">Speed <input type="range" min="0.25" max="4" step="0.25" value="1"></label>
    <label class="check"><input type="checkbox" class="show-labels"> Numbers</label>
  </div>
</div>`;

const INVITATION = "Point at a weight or a unit to read its numbers; click it to see where they come from.";
const STEERING = [".net-play", ".net-step", ".net-reset", ".net-speed", ".pass-update", ".told-prune"];

export default {
  name: "network",
  title: "Network",
  mount(element, app) {
    return new NetworkPanel(element, app);
  },
};

class NetworkPanel {
  constructor(element, app) {
    this.app = app;
    element.append(...new DOMParser().parseFromString(MARKUP, "text/html").body.childNodes);
    this.find = (selector) => element.querySelector(selector);
    this.controls = new Controls(this.find(".net-settings .fields"), {
      change: (changes) => this.set(changes),
      load: (file) => this.load(file).catch(() => {}),
      refuse: (words) => app.notice(words, "error"),
    });
    this.drawing = new NetworkDrawing(this.find(".net-drawing"), {
      point: (item) => {
        this.pointed = item;
        this.drawing.highlight(item);
        this.tell();
      },
      choose: (item) => this.choose(item),
      resize: () => this.redraw(), // the numbers of units stand above their columns
    });
    this.surface = new Surface(this.find(".net-surface"), { move: (inputs) => this.probe(inputs) });
    this.curve = new CostCurve(this.find(".net-curve"));
    this.steppers = new Steppers(this.controls.layers, this.find(".net-layers"), (layers) => this.set({ layers }));
    this.flow = new Flow(this.drawing, (stage) => this.passed(stage));
    this.direction = "forward";
    this.buttons();
    this.fold();
    app.on("select", () => {
      this.stageWords = null;
      this.redraw();
      this.fetchChosen().catch(() => {});
    });
    onColours(() => this.redraw());
    this.offerPictures();
    this.listenForFiles();
    app.on("session", () => {
      this.offer().catch(() => {});
      this.recall();
    });
  }

  offerPictures() {
    const drawn = () => scene(this.drawing, titles(this.frame));
    this.app.pictures.set("network", {
      title: "The network",
      file: "network",
      svg: () => asSVG(drawn(), titles(this.frame).title),
      png: () => asCanvas(drawn()),
    });
    this.app.pictures.set("output", {
      title: "What the network answers",
      file: "output",
      png: () => this.surface.picture(),
    });
  }

  /** Settings are folded away where the page is narrow. */
  fold() {
    const narrow = matchMedia("(max-width: 48rem)");
    const settings = this.find(".net-settings");
    settings.open = !narrow.matches;
    narrow.addEventListener("change", () => {
      settings.open = !narrow.matches;
    });
  }

  buttons() {
    const { app } = this;
    const quietly = (promise) => promise.catch(() => {});
    const click = (selector, action) =>
      this.find(selector).addEventListener("click", () => quietly(Promise.resolve(action())));
    click(".net-step", () => this.ask("step"));
    click(".net-play", () => (app.frame?.playing ? this.ask("pause") : this.play()));
    click(".net-reset", () => this.restart());
    click(".example-back", () => this.look(-1));
    click(".example-on", () => this.look(1));
    click(".net-collapse button", () => this.collapse());
    click(".told-prune", () => this.prune());
    click(".told-bias", () => app.select({ path: `${app.selected.path}.b`, index: app.selected.index }));
    this.find(".net-speed").addEventListener("change", () => {
      if (app.frame?.playing) quietly(this.ask("pause").then(() => this.play()));
    });
    click(".pass-slow", () => this.slow());
    click(".pass-next", () => this.next());
    click(".pass-update", () => this.applyUpdate());
    this.find(".pass-speed input").addEventListener("input", (event) => {
      this.flow.speed = Number(event.target.value);
    });
    this.find(".show-labels").addEventListener("change", (event) => {
      this.remember({ labels: event.target.checked });
      this.redraw();
    });
    for (const radio of this.find(".net-pass").querySelectorAll("input[type=radio]")) {
      radio.addEventListener("change", () => quietly(this.turn(radio.value)));
    }
  }

  /** What the address holds of this panel: whether numbers are shown, and the direction. */
  remember(changes) {
    const view = { ...this.app.state.view, ...changes };
    for (const [name, value] of Object.entries(view)) if (!value || value === "forward") delete view[name];
    this.app.setState({ view });
  }

  recall() {
    const { labels = false, direction = "forward" } = this.app.state.view ?? {};
    this.find(".show-labels").checked = Boolean(labels);
    this.direction = direction === "backward" ? direction : "forward";
    this.find(`input[value=${this.direction}]`).checked = true;
    if (this.direction === "backward") this.ask("backward").catch(() => {});
  }

  play() {
    const speed = Number(this.find(".net-speed").value) || null;
    return this.ask("play", { speed });
  }

  async ask(command, body) {
    const answer = await this.app.ask(`network/${command}`, body);
    if (answer.version !== undefined) this.app.receive(answer);
    return answer;
  }

  // ---------------------------------------------------------------- settings

  /** Change settings: a place of its own for the back button. */
  async set(changes) {
    this.flow.end();
    this.app.settle();
    this.app.notice("");
    try {
      await this.app.change("network/set", { changes });
      this.app.setState({}, true);
      if (changes.data) await this.offer();
    } catch {
      this.controls.update(this.frame.settings, this.frame.steerable); // what was refused is not shown as if it held
    }
  }

  async restart() {
    this.flow.end();
    if (this.frame.playing) await this.ask("pause");
    await this.app.change("network/restart");
  }

  /** Learn from a table of the reader's own. */
  async load(file) {
    this.flow.end();
    const answer = await this.app.change("network/table", { text: await file.text(), name: file.name });
    const back = await this.app.retry(answer.state?.settings.table);
    this.app.setState({}, true);
    await this.offer();
    if (back) return;
    const notes = answer.notes?.length ? ` ${answer.notes.join(" ")}` : "";
    this.app.notice(`${file.name}: learning ${answer.target_column} from the other columns.${notes}`);
  }

  async offer() {
    this.controls.offer(await this.app.ask("network/choices"));
    if (this.frame) this.controls.update(this.frame.settings, this.frame.steerable);
  }

  listenForFiles() {
    const holds = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragover", (event) => {
      if (!holds(event)) return;
      event.preventDefault();
      document.body.classList.add("dropping");
    });
    addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) document.body.classList.remove("dropping");
    });
    addEventListener("drop", (event) => {
      document.body.classList.remove("dropping");
      if (!holds(event)) return;
      event.preventDefault();
      this.load(event.dataTransfer.files[0]).catch(() => {});
    });
  }

  // ---------------------------------------------------------------- frames

  update(whole) {
    const frame = { ...whole, layers: whole.layers.filter((layer) => layer.kind === "Linear") };
    this.frame = frame;
    if (this.flow.pass && (frame.playing || frame.version !== this.flow.pass.frame.version)) this.flow.end();
    const holds = (layer) => Object.keys(layer.parameters ?? {}).length > 0;
    const others = whole.layers.filter((layer) => layer.kind !== "Linear" && holds(layer));
    frame.behind = others.length > 0 && whole.layers.indexOf(others[0]) < whole.layers.indexOf(frame.layers[0]);
    const kinds = [...new Set(others.map((layer) => layer.kind))].join(", ");
    this.find(".net-between").textContent = kinds && `${kinds}: not drawn here, but under Your model`;
    if (!this.flow.pass) this.reached = null;
    if (!frame.phase) this.stageWords = null;
    this.redraw();
    this.curve.update(frame);
    this.fetchChosen().catch(() => {});
    this.find(".count-step").textContent = frame.step.toLocaleString("en");
    this.find(".count-epoch").textContent = frame.epoch.toLocaleString("en");
    this.find(".count-cost").textContent = frame.cost === null ? "–" : label(frame.cost);
    const held = frame.validation;
    this.find(".count-held").textContent = !held
      ? "–"
      : label(held.cost) +
        (held.accuracy === null || held.accuracy === undefined ? "" : ` · ${(100 * held.accuracy).toFixed(0)} %`);
    this.find(".net-lead").hidden = frame.steerable === false;
    this.find(".surface-key").hidden = !frame.surface || !frame.validation;
    const play = this.find(".net-play");
    play.textContent = frame.playing ? "Pause" : "Play";
    this.find(".example-now").textContent = frame.example
      ? `${frame.example.index.toLocaleString("en")} (of ${frame.example.of.toLocaleString("en")})`
      : "";
    this.controls.update(frame.settings, frame.steerable);
    for (const selector of STEERING) this.find(selector).disabled = frame.steerable === false;
    const flat = frame.layers.length > 1 && frame.layers.slice(0, -1).every((layer) => layer.activation === "linear");
    this.find(".net-collapse").hidden = !flat || frame.inputs.values.length > 12;
    if (this.collapsedAt !== frame.version) this.find(".collapsed").replaceChildren();
    if (frame.diverged && frame.diverged !== this.diverged) this.app.notice(frame.diverged, "error");
    this.diverged = frame.diverged;
  }

  redraw() {
    if (!this.frame) return;
    this.drawing.update(this.frame, {
      direction: this.direction,
      labels: this.find(".show-labels").checked,
      selected: this.app.selected,
      reached: this.reached ?? null,
    });
    this.steppers.update(
      this.frame.layers.slice(0, -1).map((layer) => layer.units),
      this.drawing.place,
      this.frame.steerable ?? true,
    );
    this.find(".net-drawing").dataset.phase = this.frame.phase ?? "none";
    this.find(".legend-what").textContent = this.direction === "backward" ? "∂C/∂w" : "weight";
    this.find(".net-drawing").setAttribute("aria-label", this.drawing.summary());
    this.surface.update(this.frame);
    this.tell();
    this.tellSurface();
  }

  show() {
    this.redraw();
  }

  hide() {
    this.flow.end();
  }

  // ---------------------------------------------------------------- what is pointed at or chosen

  choose(item) {
    this.app.select(this.placeOf(item));
  }

  placeOf(item) {
    const { layers } = this.frame;
    if (item.column === 0) return { path: "x", index: [item.unit] };
    if (item.layer !== undefined) return { path: `${layers[item.layer].path}.W`, index: [item.i, item.j] };
    const { path } = layers[item.column - 1];
    return { path: item.bias ? `${path}.b` : path, index: [item.unit] };
  }

  /** Of a large layer a frame holds the largest weights; a chosen one that is not among them is asked for, once. */
  async fetchChosen() {
    const item = this.frame && this.itemOf(this.app.selected);
    const wanted = JSON.stringify([this.app.session, this.app.selected]);
    if (item?.layer === undefined || this.wanted === wanted) return;
    if (entry(this.frame.layers[item.layer].W, item.i, item.j) !== null) return;
    this.wanted = wanted;
    await this.ask("choose", this.app.selected);
  }

  itemOf(place) {
    if (!place) return null;
    if (place.path === "x") return { column: 0, unit: place.index[0] };
    for (const [n, layer] of this.frame.layers.entries()) {
      if (place.path === `${layer.path}.W`) return { layer: n, i: place.index[0], j: place.index[1] };
      if (place.path === `${layer.path}.b`) return { column: n + 1, unit: place.index[0], bias: true };
      if (place.path === layer.path) return { column: n + 1, unit: place.index[0] };
    }
    return null;
  }

  /** The line under the drawing: what is pointed at, else what is chosen, else what can be done. */
  tell() {
    if (!this.frame) return;
    const item = this.pointed ?? this.itemOf(this.app.selected);
    const { name, numbers } = item ? this.numbersOf(item) : { name: INVITATION, numbers: [] };
    const words = this.pointed ? null : this.stageWords;
    this.find(".told-words").textContent = words ?? "";
    this.find(".told-name").textContent = words && !item ? "" : name;
    this.tellActions();
    const list = this.find(".told-numbers");
    list.replaceChildren(
      ...numbers.map(([symbol, value]) => {
        const pair = document.createElement("div");
        const [term, given] = [document.createElement("dt"), document.createElement("dd")];
        term.textContent = symbol;
        given.textContent = number(value, 5);
        given.className = value === null || value === undefined ? "number muted" : "number";
        if (value !== null && value !== undefined) given.dataset.value = value;
        pair.append(term, given);
        return pair;
      }),
    );
  }

  /** What can be done with what is chosen. */
  tellActions() {
    const item = this.itemOf(this.app.selected);
    const [prune, bias] = [this.find(".told-prune"), this.find(".told-bias")];
    prune.hidden = item?.layer === undefined;
    bias.hidden = !(item?.column > 0) || Boolean(item.bias) || !this.frame.layers[item.column - 1].b;
    if (!prune.hidden) prune.textContent = this.isPruned(item) ? "Let it grow again" : "Prune it";
  }

  /** A network without bends is one matrix, however deep it is. */
  async collapse() {
    const { W, b, difference } = await this.ask("collapse");
    const table = document.createElement("table");
    table.className = "numbers";
    const row = (name, numbers) => {
      const line = table.insertRow();
      line.append(Object.assign(document.createElement("th"), { textContent: name, scope: "row" }));
      for (const value of numbers) line.insertCell().textContent = number(value, 4);
    };
    W.forEach((numbers, k) => row(`from ${inputName(this.frame, k)}`, numbers));
    row("b", b);
    table.createCaption().textContent =
      `W and b of the one layer that these ${this.frame.layers.length} are. ` +
      `The answers differ by ${number(difference, 2)} at most.`;
    this.find(".collapsed").replaceChildren(table);
    this.collapsedAt = this.frame.version;
  }

  isPruned({ layer, i, j }) {
    return (this.frame.layers[layer].pruned ?? []).some(([k, l]) => k === i && l === j);
  }

  async prune() {
    const { path, index } = this.app.selected;
    await this.ask("prune", { path, index, pruned: !this.isPruned(this.itemOf(this.app.selected)) });
  }

  numbersOf(item) {
    const { frame } = this;
    if (item.layer !== undefined) {
      const layer = frame.layers[item.layer];
      const name = `Weight from ${startName(frame, item.layer, item.i)} to ${unitName(frame, item.layer + 1, item.j)}`;
      return {
        name,
        numbers: [
          ["w", entry(layer.W, item.i, item.j)],
          ["∂C/∂w", entry(layer.dW, item.i, item.j)],
        ],
      };
    }
    const name = unitName(frame, item.column, item.unit);
    if (item.column === 0) return { name: `Input ${name}`, numbers: [["x", frame.inputs.values[item.unit]]] };
    const layer = frame.layers[item.column - 1];
    const at = (values) => values?.[item.unit] ?? null;
    if (item.bias)
      return {
        name: `Bias of ${name}`,
        numbers: [
          ["b", at(layer.b)],
          ["∂C/∂b", at(layer.db)],
        ],
      };
    const unit = name.replace(/^the /, "");
    return {
      name: unit[0].toUpperCase() + unit.slice(1),
      numbers: [
        ["z", at(layer.z)],
        ["a", at(layer.a)],
        ["δ", at(layer.delta)],
      ],
    };
  }

  /** Ask what the network answers under the cursor; while one question is open, only the latest place is kept. */
  async probe(inputs) {
    this.over = inputs;
    if (!inputs) this.answered = null;
    this.tellSurface();
    if (!inputs || this.asking) return;
    this.asking = true;
    try {
      const { y } = await this.app.ask("network/answer", { x: inputs });
      if (this.over) this.answered = { inputs, y };
    } catch {
      this.over = null;
    }
    this.asking = false;
    this.tellSurface();
    if (this.over && this.over !== inputs) this.probe(this.over);
  }

  tellSurface() {
    const { frame } = this;
    if (!frame) return;
    const { names, values } = frame.inputs;
    const place = (numbers) => names.map((_, k) => `${inputName(frame, k)} = ${label(numbers[k])}`).join(", ");
    let text = this.answerInWords();
    if (this.over) {
      const { inputs, y } = this.answered ?? { inputs: this.over, y: null };
      text = `${place(inputs)}: y = ${y ? y.slice(0, 4).map(label).join(", ") : "…"}`;
    } else if (values.length <= 2) text = `${place(values)}: ${text}`;
    this.find(".surface-told").textContent = text;
  }

  /** The answer; of many classes the one with the largest y. */
  answerInWords() {
    const { output, classes, target } = this.frame;
    if (output.length <= 3 || !classes || classes.length !== output.length) {
      const some = (numbers) => numbers.slice(0, 3).map(label).join(", ") + (numbers.length > 3 ? " …" : "");
      return `y = ${some(output)}, target ${some(target)}`;
    }
    const largest = (numbers) => numbers.indexOf(Math.max(...numbers));
    const wanted = classes[target.length === 1 ? target[0] : largest(target)];
    const most = label(Math.max(...output));
    return `The largest y, ${most}, is that of ${classes[largest(output)]}; the target is ${wanted}.`;
  }

  /** Take another example into view; in the backward view its errors are computed too. */
  async look(by) {
    this.flow.end();
    await this.ask("look", { by });
    if (this.direction === "backward") await this.ask("backward");
  }

  // ---------------------------------------------------------------- forward | backward

  async turn(direction) {
    this.flow.end();
    this.direction = direction;
    this.remember({ direction });
    if (this.frame.playing) {
      this.redraw();
      return;
    }
    // With one example a step, both passes go by the example that the next step goes by.
    const next = this.frame.settings?.batch_size === 1 && this.frame.phase !== "forward";
    if (direction === "backward" && next) await this.ask("forward");
    await this.ask(direction);
    this.begin();
  }

  begin() {
    this.flow.begin(this.frame, this.direction);
  }

  async slow() {
    if (this.frame.playing) await this.ask("pause");
    if (this.flow.running) this.flow.pause();
    else if (this.flow.pass) this.flow.run();
    else await this.turn(this.direction);
  }

  async next() {
    if (this.frame.playing) await this.ask("pause");
    if (!this.flow.pass) await this.turn(this.direction);
    this.flow.pause();
    this.flow.next();
  }

  /** The step that the two passes led to: w − η · ∂C/∂w. */
  async applyUpdate() {
    this.flow.end();
    await this.ask("update");
    const { batch_size: rows } = this.frame.settings;
    this.stageWords =
      rows === 1
        ? "Updated: every weight has moved by −η · ∂C/∂w. The passes in view are those that it went by."
        : `Updated by the mean over a batch of ${rows} rows, of which this example is one way to look at it. ` +
          "With one example a step (“one” at the batch size), the passes in view are those that a step goes by.";
    this.tell();
  }

  passed(stage) {
    this.reached = stage.reached;
    this.find(".pass-slow").textContent = stage.running ? "Hold" : "Slow motion";
    this.stageWords = this.wordsOf(stage);
    this.redraw();
  }

  wordsOf({ direction, reached, next }) {
    const { frame } = this;
    if (!reached) {
      return direction === "forward"
        ? `Forward is done: the answer is ${frame.output
            .slice(0, 3)
            .map((v) => number(v))
            .join(", ")}.`
        : "Backward is done: ∂C/∂w of a weight is a · δ, the activation where it starts times the error " +
            "where it ends.";
    }
    const layer = frame.layers[next - 1];
    const units = columnName(frame, next);
    if (direction === "forward") {
      return (
        `Forward into ${units}: each unit adds up w · a of what comes in and its bias, z, and answers a` +
        `${["Identity", "linear"].includes(layer.activation) ? " = z" : ` = ${layer.activation}(z)`}.`
      );
    }
    if (next === frame.layers.length)
      return "Backward begins at the cost: δ = ∂C/∂z of the output says how C changes with z there.";
    const slope = `times the slope of ${layer.activation} at its z`;
    return `Backward into ${units}: each unit adds up w · δ of where it goes out, ${slope}: δ.`;
  }
}
