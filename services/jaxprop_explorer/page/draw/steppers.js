// The number of hidden layers, and of units in each, as − and + above the columns that they change.

const [MOST_LAYERS, MOST_UNITS] = [6, 512];

export class Steppers {
  /** `change([widths of the hidden layers])` */
  constructor(element, change) {
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
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.does : null;
    const flowing = gap < (matchMedia("(pointer: coarse)").matches ? 128 : 92);
    this.element.classList.toggle("flowing", flowing);
    const count = widths.length;
    const layers = this.stepper("layers", count, count === 1 ? "layer" : "layers", "hidden layer", {
      less: count > 0 ? widths.slice(0, -1) : null,
      more: count < MOST_LAYERS ? [...widths, widths.at(-1) ?? 4] : null,
    });
    const units = widths.map((width, k) => {
      const with_ = (n) => widths.map((one, at) => (at === k ? n : one));
      return this.stepper(`units-${k}`, width, width === 1 ? "unit" : "units", `unit in hidden layer ${k + 1}`, {
        less: width > 1 ? with_(width - 1) : null, more: width < MOST_UNITS ? with_(width + 1) : null,
      });
    });
    this.element.replaceChildren(layers, ...units);
    units.forEach((part, k) => { if (!flowing && columns[k + 1] !== undefined) part.style.left = `${columns[k + 1]}px`; });
    for (const button of this.element.querySelectorAll("button")) button.disabled ||= !steerable;
    if (focused) this.element.querySelector(`[data-does="${focused}"]`)?.focus();
  }

  stepper(name, count, word, what, { less, more }) {
    const part = document.createElement("div");
    part.className = `stepper stepper-${name.split("-")[0]}`;
    const button = (sign, text, next, does) => {
      const made = Object.assign(document.createElement("button"), {
        type: "button", className: "small square", textContent: sign, disabled: next === null,
      });
      made.setAttribute("aria-label", text);
      made.dataset.does = does;
      made.addEventListener("click", () => this.change(next));
      return made;
    };
    const told = document.createElement("span");
    told.className = "number";
    told.textContent = `${count} ${word}`;
    part.append(button("−", `One ${what} less`, less, `${name}-less`), told, button("+", `One ${what} more`, more, `${name}-more`));
    return part;
  }
}
