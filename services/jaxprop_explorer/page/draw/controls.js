// The settings of an experiment as fields; what each offers comes from the server, so that page and library agree.

import { make } from "./elements.js";

const FIELDS = [
  { name: "data", text: "Data", kind: "choice" },
  { name: "noise", text: "Noise", kind: "number", step: "0.05", min: 0, max: 1 },
  { name: "activation", text: "Activation", kind: "choice" },
  { name: "cost", text: "Cost", kind: "choice" },
  { name: "optimizer", text: "Optimizer", kind: "choice" },
  { name: "learning_rate", text: "Rate η", kind: "number", step: "any", min: 0 },
  { name: "batch_size", text: "Batch size", kind: "number", step: "1", min: 1 },
  { name: "seed", text: "Seed", kind: "number", step: "1", min: 0 },
];

export class Controls {
  /** `change({name: value})` for a changed setting; `load(file)` for a table; `refuse(words)` for what is no number. */
  constructor(element, { change, load, refuse }) {
    this.element = element;
    this.change = change;
    this.refuse = refuse;
    this.inputs = {};
    for (const field of FIELDS) element.append(this.field(field));
    this.layers = make("div", {});
    this.inputs.activation.parentElement.before(
      make(
        "div",
        { className: "field" },
        make("span", { className: "label", textContent: "Hidden layers" }),
        this.layers,
      ),
    );
    this.offerOne();
    const file = make("input", {
      type: "file",
      accept: ".csv,.tsv,.txt,text/csv",
      id: "set-file",
      className: "visually-hidden",
      tabIndex: -1,
    });
    file.addEventListener("change", () => {
      if (file.files[0]) load(file.files[0]);
      file.value = "";
    });
    const open = make("button", { type: "button", id: "set-open", textContent: "Own CSV …" });
    open.title = "Or drop a file on the page";
    open.addEventListener("click", () => file.click());
    file.setAttribute("aria-label", "A table of your own, as CSV");
    element.append(
      make(
        "div",
        { className: "field" },
        make("span", { className: "label", textContent: "Your own data" }),
        open,
        file,
      ),
    );
  }

  /** A button beside the batch size: one example a step, and back to as many as before. */
  offerOne() {
    const input = this.inputs.batch_size;
    this.one = make("button", { type: "button", textContent: "one", title: "One example a step" });
    this.one.setAttribute("aria-label", "One example a step");
    const both = make("div", { className: "with-button" });
    input.before(both);
    both.append(input, this.one);
    let before = 10;
    this.one.addEventListener("click", () => {
      const now = Number(input.value);
      if (now !== 1) before = now;
      this.change({ batch_size: now === 1 ? before : 1 });
    });
  }

  field({ name, text, kind, ...rest }) {
    const id = `set-${name}`;
    const input = kind === "choice" ? make("select", { id }) : make("input", { id, type: "number", ...rest });
    input.addEventListener("change", () => this.changed(name, kind, input));
    this.inputs[name] = input;
    return make("div", { className: "field" }, make("label", { htmlFor: id, textContent: text }), input);
  }

  changed(name, kind, input) {
    if (kind === "number" && (input.value === "" || !input.checkValidity())) {
      input.setAttribute("aria-invalid", "true");
      this.refuse(`${input.labels[0].textContent}: ${input.validationMessage || "expected a number"}`);
      return;
    }
    input.removeAttribute("aria-invalid");
    this.change({ [name]: kind === "number" ? Number(input.value) : input.value });
  }

  /** {name: [{name, label}]} of everything that can be chosen. */
  offer(choices) {
    for (const [name, input] of Object.entries(this.inputs)) {
      if (input.tagName !== "SELECT" || !choices[name]) continue;
      const now = input.value;
      input.replaceChildren(...choices[name].map((one) => this.option(one)));
      if (now) input.value = now;
    }
  }

  option(one) {
    const value = typeof one === "string" ? one : one.name;
    return make("option", {
      value,
      textContent: one.label ?? value.replaceAll("_", " "),
      disabled: Boolean(one.disabled),
    });
  }

  /** Show the settings that hold now; a field that is being written in is left alone. */
  update(settings, steerable = true) {
    for (const button of this.element.querySelectorAll(".with-button button, #set-open")) button.disabled = !steerable;
    for (const [name, input] of Object.entries(this.inputs)) {
      if (input === document.activeElement && input.tagName !== "SELECT") continue;
      const value = settings[name];
      const nothing = value === null || value === undefined;
      input.disabled = nothing || !steerable;
      const text = nothing ? "" : String(value);
      if (input.tagName === "SELECT" && text && ![...input.options].some((o) => o.value === text))
        input.append(this.option(text));
      if (input.value !== text) input.value = text;
      input.removeAttribute("aria-invalid");
    }
    this.one.setAttribute("aria-pressed", String(settings.batch_size === 1));
  }
}
