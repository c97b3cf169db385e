// What a derivation is laid out with: elements, sentences with formulas in them, cards that multiply, bars for terms.

import { make } from "./elements.js";

/** An element that holds MathML which Python wrote. */
export function formula(app, markup, className = "formula") {
  const element = make("div", { className });
  app.math(element, markup);
  return element;
}

/** Fill an element with a sentence: words, and formulas as {math}. */
export function sentence(app, element, parts) {
  element.replaceChildren(
    ...parts.map((part) => {
      if (typeof part === "string") return document.createTextNode(part);
      const inside = make("span");
      app.math(inside, part.math);
      return inside;
    }),
  );
  return element;
}

/** The factors as cards with × between, and = and the product behind: symbol, formula, the same in numbers, value. */
export function cards(app, element, found) {
  const parts = [];
  for (const [i, card] of found.cards.entries()) {
    if (i > 0) parts.push(sign("×", "times"));
    parts.push(one(app, card));
  }
  if (found.cards.length > 1) {
    const symbol = formula(app, found.symbol, "card-symbol");
    const value = quiet("card-value number", found.value);
    const words = `The product: ${found.value}`;
    parts.push(sign("=", "is"), make("li", { className: "chain-card product", aria: { label: words } }, symbol, value));
  }
  element.replaceChildren(...parts);
}

function sign(text, words) {
  return make("li", { className: "card-sign", aria: { label: words } }, text);
}

function one(app, card) {
  const colour = card.term ? `term-${card.term}` : "";
  const middle = make("div", { className: "card-formulas" });
  for (const [i, side] of card.formulas.entries()) {
    middle.append(
      make(
        "div",
        { className: "card-side" },
        make("span", { className: "card-equals" }, i ? "≈" : "="),
        formula(app, side, "formula"),
      ),
    );
  }
  const why = sentence(app, make("p", { className: "card-why small muted" }), card.why);
  const value = quiet(`card-value number ${colour}`, card.value);
  value.dataset.value = card.exact;
  return make(
    "li",
    { className: `chain-card edge-${card.term}`, aria: { label: `${card.title}: ${card.value}` } },
    make("h4", {}, card.title),
    formula(app, card.symbol, `card-symbol ${colour}`),
    middle,
    value,
    make("details", { className: "card-more" }, make("summary", {}, "Why"), why),
  );
}

/** Terms of a sum: each with its formula, its number and a bar as long as its share of the largest. */
export function terms(app, element, found) {
  element.replaceChildren(
    ...found.map((term) => {
      const bar = make("span", { className: `term-bar ${term.negative ? "minus" : "plus"}` });
      bar.style.width = `${Math.max(1, 100 * term.share)}%`;
      const sides = term.formulas.map((side, i) => [
        i ? make("span", { className: "muted" }, " ≈ ") : "",
        formula(app, side, "inline-formula"),
      ]);
      return make(
        "li",
        {},
        make("span", { className: "term-label small muted" }, term.label),
        make("span", { className: "term-formula" }, ...sides.flat()),
        quiet("number term-value", term.value),
        make("span", { className: "term-track", aria: { hidden: "true" } }, bar),
      );
    }),
  );
}

/** Point at a symbol, or at its number, and all places where it stands are marked. */
export function matching(element) {
  const mark = (name) => {
    for (const each of element.querySelectorAll(".same")) each.classList.remove("same");
    if (name === undefined) return;
    for (const each of element.querySelectorAll("[data-symbol]"))
      each.classList.toggle("same", each.dataset.symbol === name);
  };
  element.addEventListener("pointerover", (event) => mark(event.target.closest?.("[data-symbol]")?.dataset.symbol));
  element.addEventListener("pointerleave", () => mark(undefined));
}

const pause = (milliseconds) =>
  new Promise((done) => {
    setTimeout(done, milliseconds);
  });

/**
 * Run `work` when asked, and again once if asked while it ran: the latest wish wins, and none waits in a queue. `gap()`
 * milliseconds are left between two runs. What goes wrong on the way has been shown by the app.
 */
export function latest(work, gap = () => 0) {
  let running = false;
  let again = false;
  return async function run() {
    again = true;
    if (running) return;
    running = true;
    while (again) {
      again = false;
      try {
        await work();
      } catch {
        /* shown already */
      }
      if (again && gap()) await pause(gap());
    }
    running = false;
  };
}

/** A number that follows from others; a screen reader reads it where it stands, not whenever it changes. */
function quiet(className, textContent) {
  return make("output", { className, textContent, ariaLive: "off" });
}
