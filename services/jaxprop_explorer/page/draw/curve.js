// The cost on its way: what it was on the batches, and on the rows that are held out, as two lines on one scale.

import { label } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, FOOT] = [240, 84, 4];

function draw(parent, tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}

export class CostCurve {
  constructor(element) {
    this.svg = draw(element, "svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      class: "curve",
      role: "img",
      preserveAspectRatio: "none",
    });
    draw(this.svg, "line", { x1: 0, x2: WIDTH, y1: HEIGHT - FOOT, y2: HEIGHT - FOOT, class: "axis" });
    this.training = draw(this.svg, "path", { class: "curve-training" });
    this.most = element.appendChild(document.createElement("span"));
    this.most.className = "curve-most number";
    this.most.setAttribute("aria-hidden", "true");
    this.validation = draw(this.svg, "path", { class: "curve-validation" });
  }

  update({ history, cost, validation }) {
    const held = history.validation ?? [];
    const values = [...history.cost, ...held].filter((v) => Number.isFinite(v));
    const most = Math.max(...values, 1e-12);
    const steps = history.step;
    const last = steps.at(-1) ?? 1;
    const first = Math.min(steps[0] ?? 0, last - 1);
    const line = (numbers) => {
      let text = "";
      numbers.forEach((value, k) => {
        if (!Number.isFinite(value)) return;
        const x = ((steps[k] - first) / (last - first)) * WIDTH;
        const y = HEIGHT - FOOT - (value / most) * (HEIGHT - FOOT - 4);
        text += `${text ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      });
      return text;
    };
    this.training.setAttribute("d", line(history.cost));
    this.validation.setAttribute("d", line(held));
    this.most.textContent = values.length > 0 ? label(most) : "";
    const words =
      steps.length === 0
        ? "no step was taken yet"
        : `now ${label(cost)}, largest shown ${label(most)}` +
          (validation ? `, ${label(validation.cost)} on the rows held out` : "");
    this.svg.setAttribute("aria-label", `Cost after each step: ${words}`);
  }
}
