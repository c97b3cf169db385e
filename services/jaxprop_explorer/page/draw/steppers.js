// The number of hidden layers, and of units in each, as − and +: the layers among the settings, the units above
// their column.

const [MOST_LAYERS, MOST_UNITS] = [6, 512];
const WITH_A_WORD = 140; // pixels between columns from which on a number has its word beside it

/** What the first and the last column of the drawing are called. */
function names(columns) {
  return [
    ["inputs", columns[0]],
    ["output", columns.at(-1)],
  ].map(([text, x]) => {
    const name = Object.assign(document.createElement("span"), { className: "column-name", textContent: text });
    name.style.left = `${x}px`;
    return name;
  });
}

export class Steppers {
  /** `change([widths of the hidden layers])` */
  constructor(field, element, change) {
    this.field = field;
    this.element = element;
    this.change = change;
    this.key = "";
  }

  /** Shows the widths above the columns of a layout, or in a row where the columns are too close to each other. */
  update(widths, place, steerable) {
    const columns = place.columns.map((column) => column.x);
    const gap = columns.length > 1 ? columns[1] - columns[0] : 0;
    const key = JSON.stringify([widths, columns, steerable]);
    if (key === this.key) return;
    this.key = key;
    const focused = document.activeElement?.dataset?.does;
    const flowing = gap < (matchMedia("(pointer: coarse)").matches ? 112 : 88);
    this.element.classList.toggle("flowing", flowing);
    const count = widths.length;
    const layers = this.stepper("layers", count, "hidden layer", {
      less: count > 0 ? widths.slice(0, -1) : null,
      more: count < MOST_LAYERS ? [...widths, widths.at(-1) ?? 4] : null,
    });
    const units = widths.map((width, k) => {
      const with_ = (n) => widths.map((one, at) => (at === k ? n : one));
      return this.stepper(`units-${k}`, width, `unit of hidden layer ${k + 1}`, {
        less: width > 1 ? with_(width - 1) : null,
        more: width < MOST_UNITS ? with_(width + 1) : null,
      });
    });
    this.field.replaceChildren(layers);
    this.element.replaceChildren(...units, ...(flowing ? [] : names(columns)));
    units.forEach((part, k) => {
      if (!flowing && columns[k + 1] !== undefined) part.style.left = `${columns[k + 1]}px`;
      if (!flowing && gap >= WITH_A_WORD) part.querySelector(".number").append(widths[k] === 1 ? " unit" : " units");
    });
    for (const part of [this.field, this.element]) {
      for (const button of part.querySelectorAll("button")) button.disabled ||= !steerable;
      if (focused) part.querySelector(`[data-does="${focused}"]`)?.focus();
    }
  }

  stepper(name, count, what, { less, more }) {
    const part = document.createElement("div");
    part.className = "stepper";
    part.setAttribute("role", "group");
    part.setAttribute("aria-label", `${count} × ${what}`);
    const button = (sign, text, next, does) => {
      const made = Object.assign(document.createElement("button"), {
        type: "button",
        className: "small square",
        textContent: sign,
        disabled: next === null,
      });
      made.setAttribute("aria-label", text);
      made.dataset.does = does;
      made.addEventListener("click", () => this.change(next));
      return made;
    };
    const told = document.createElement("span");
    told.className = "number";
    told.textContent = count;
    part.append(
      button("−", `One ${what} less`, less, `${name}-less`),
      told,
      button("+", `One ${what} more`, more, `${name}-more`),
    );
    return part;
  }
}
