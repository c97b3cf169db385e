// An interaction of a lesson: controls, and the words, drawings, tables and formulas that Python shows for them.

import { button, make } from "./elements.js";

/** Rows of words and numbers, the head first. */
export function table(rows) {
  const [head, ...body] = rows;
  const cells = (tag, row) =>
    make("tr", {}, ...row.map((cell) => make(tag, tag === "th" ? { scope: "col" } : {}, cell)));
  return make(
    "div",
    { className: "scroll" },
    make(
      "table",
      { className: "numbers" },
      make("thead", {}, cells("th", head)),
      make("tbody", {}, ...body.map((row) => cells("td", row))),
    ),
  );
}

/** The drawings that Python made, side by side: SVG, or images as data. */
export function pictures(shown) {
  const one = (drawn) => {
    if (drawn.startsWith("data:")) return make("img", { className: "picture", src: drawn, alt: shown.said });
    return document.importNode(new DOMParser().parseFromString(drawn, "image/svg+xml").documentElement, true);
  };
  return make("div", { className: "pictures" }, ...[shown.picture, shown.beside].filter(Boolean).map(one));
}

/**
 * One interaction: controls, and what Python shows for their values; while an answer is under way
 * only the latest is asked.
 */
export class Widget {
  constructor(panel, number, found) {
    Object.assign(this, { panel, number, name: found.name });
    this.values = Object.fromEntries(found.controls.map((control) => [control.name, control.start]));
    this.setters = new Map();
    this.place = make("div", { className: "shown" });
    this.element = make(
      "section",
      { className: "widget card", attributes: { "aria-label": found.title } },
      make("h3", {}, found.title),
      make("div", { className: "fields" }, ...found.controls.map((control) => this.control(control))),
      this.place,
    );
    this.place.append(make("p", { className: "words muted" }, "…"));
  }

  /** Ask for what is shown at the start, unless somebody moved a control already. */
  first() {
    return this.asking ?? (this.drawn ? Promise.resolve() : this.refresh());
  }

  control(control) {
    const id = `widget-${this.name}-${control.name}`;
    return {
      slider: () => this.slider(control, id),
      choice: () => this.choice(control, id),
      typed: () => this.typed(control, id),
      moves: () => this.moves(control),
    }[control.kind]();
  }

  slider({ name, label, low, high, step, start }, id) {
    const input = make("input", { id, type: "range", min: low, max: high, step });
    const value = make("output", { className: "value", htmlFor: id });
    const set = (to) => {
      input.value = to;
      value.textContent = String(Number(to)).replace("-", "−");
    };
    set(start);
    this.setters.set(name, set);
    input.addEventListener("input", () => {
      set(input.value);
      this.change(name, Number(input.value));
    });
    return make("div", { className: "field" }, make("label", { htmlFor: id }, `${label} = `, value), input);
  }

  choice({ name, label, options, start }, id) {
    const select = make("select", { id }, ...options.map(([value, words]) => make("option", { value }, words)));
    select.value = start;
    this.setters.set(name, (to) => {
      select.value = to;
    });
    select.addEventListener("change", () => this.change(name, select.value));
    return make("div", { className: "field" }, make("label", { htmlFor: id }, label), select);
  }

  typed({ name, label, start }, id) {
    const input = make("input", { id, value: start, autocomplete: "off", spellcheck: false });
    this.setters.set(name, (to) => {
      input.value = to;
    });
    input.addEventListener("input", () => this.change(name, input.value));
    return make("div", { className: "field" }, make("label", { htmlFor: id }, label), input);
  }

  moves({ name, label, options }) {
    this.setters.set(name, () => {});
    const more = options.map(([value, words]) => button(words, () => this.change(name, [...this.values[name], value])));
    return make(
      "div",
      { className: "field moves" },
      make("span", { className: "label" }, label),
      make(
        "div",
        { className: "actions" },
        ...more,
        button("Start again", () => this.change(name, []), { className: "quiet" }),
      ),
    );
  }

  change(name, value) {
    this.values = { ...this.values, [name]: value };
    return this.refresh();
  }

  set(values) {
    this.values = { ...this.values, ...values };
    for (const [name, value] of Object.entries(values)) this.setters.get(name)?.(value);
    return this.refresh();
  }

  async refresh() {
    this.stale = true;
    if (this.asking) return this.asking;
    this.element.setAttribute("aria-busy", "true");
    this.asking = (async () => {
      try {
        while (this.stale) {
          this.stale = false;
          this.draw(await this.panel.ask("show", { number: this.number, widget: this.name, values: this.values }));
        }
      } finally {
        this.asking = null;
        this.element.removeAttribute("aria-busy");
      }
    })();
    return this.asking;
  }

  draw(shown) {
    this.drawn = true;
    this.place.replaceChildren(make("p", { className: "words", role: "status" }, shown.words));
    if (shown.code) this.place.append(make("pre", {}, shown.code));
    if (shown.picture) this.place.append(pictures(shown));
    if (shown.rows.length) this.place.append(table(shown.rows));
    for (const one of shown.formulas) {
      const place = make("div", { className: "formula" });
      this.panel.app.math(place, one.mathml);
      this.place.append(place);
    }
  }
}
